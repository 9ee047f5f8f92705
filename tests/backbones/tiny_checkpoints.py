"""Tiny random pipelines in the folder layout of the released checkpoints: what a test loads is what a user loads."""

from __future__ import annotations

import torch

PROMPT_WORDS = "camera push in pull out move left right orbit pan fixed then a red ball on the floor of bright room"


def make_tokenizer():
    """A T5 tokenizer over whole words."""
    from transformers import T5TokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in PROMPT_WORDS.split())]
    return T5TokenizerFast(vocab=[(piece, -float(i > 2)) for i, piece in enumerate(pieces)], extra_ids=0)


def make_text_encoder(kind="t5"):
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    if kind == "umt5":
        return UMT5EncoderModel(UMT5Config(**sizes)).eval()
    return T5EncoderModel(T5Config(**sizes)).eval()


def wan_transformer(channels=16):
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=channels,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )


def wan_vae():
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def wan22_vae():
    """As Wan2.2 5B has it: residual blocks, stride 16 by a patch of 2."""
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=3,
        decoder_base_dim=3,
        z_dim=48,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )


def make_wan(kind="2.1"):
    """`2.1`, `2.2-5B` (per-token timesteps) or `2.2-A14B` (two transformers)."""
    from diffusers import UniPCMultistepScheduler, WanPipeline

    torch.manual_seed(0)
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )
    parts = {"tokenizer": make_tokenizer(), "text_encoder": make_text_encoder("umt5"), "scheduler": scheduler}
    if kind == "2.2-5B":
        return WanPipeline(**parts, transformer=wan_transformer(48), vae=wan22_vae(), expand_timesteps=True)
    if kind == "2.2-A14B":
        second = wan_transformer()
        return WanPipeline(
            **parts, transformer=wan_transformer(), transformer_2=second, vae=wan_vae(), boundary_ratio=0.875
        )
    return WanPipeline(**parts, transformer=wan_transformer(), vae=wan_vae())


def make_cogvideox(kind="1.5"):
    """`1.5` (temporal patches of two) or `1.0`."""
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    torch.manual_seed(0)
    newer = kind == "1.5"
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        patch_size=2,
        patch_size_t=2 if newer else None,
        patch_bias=not newer,
        temporal_compression_ratio=4,
        max_text_seq_length=16,
        use_rotary_positional_embeddings=True,
    )
    vae = AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    scheduler = CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    return CogVideoXPipeline(make_tokenizer(), make_text_encoder(), vae.eval(), transformer.eval(), scheduler)
