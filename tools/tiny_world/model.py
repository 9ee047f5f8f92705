"""The parts of the tiny pipeline, all of them classes of diffusers and transformers but for the VAE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from worldr1_backbones.tiny.captions import vocabulary_words
from worldr1_backbones.tiny.vae import TinyWanVAE

MAX_TEXT_LENGTH = 32
"""Tokens that a caption is padded to in training; the longest one has 30."""
LONGEST_TEXT_LENGTH = 512
"""Padding of `WanPipeline` by default; the transformer is trained to bear any length up to it."""
FLOW_SHIFT = 3.0
_PAD, _EOS, _UNKNOWN = "<pad>", "</s>", "<unk>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Shape of the transformer and the text encoder.

    Attributes:
        num_heads: Attention heads.
        head_dim: Width of a head.
        num_layers: Blocks.
        ffn_dim: Width of the feed-forward layers.
        patch: Side of a transformer patch on the latent grid: 2 gives 48 tokens a clip, 1 gives 192.
        text_dim: Width of the text encoder.
        text_layers: Its blocks.
        z_dim: Latent channels.
    """

    num_heads: int = 8
    head_dim: int = 32
    num_layers: int = 4
    ffn_dim: int = 1024
    patch: int = 2
    text_dim: int = 96
    text_layers: int = 2
    z_dim: int = 64


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the closed vocabulary, in lower case."""
    vocabulary = {word: index for index, word in enumerate([_PAD, _EOS, _UNKNOWN, *vocabulary_words()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_EOS}", special_tokens=[(_EOS, vocabulary[_EOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_EOS,
        unk_token=_UNKNOWN,
        model_max_length=LONGEST_TEXT_LENGTH,
    )


def build_text_encoder(size: ModelSize, vocab_size: int) -> UMT5EncoderModel:
    """A small UMT5 encoder with random weights."""
    config = UMT5Config(
        vocab_size=-(-vocab_size // 8) * 8,
        d_model=size.text_dim,
        d_kv=16,
        num_heads=size.text_dim // 16,
        d_ff=2 * size.text_dim,
        num_layers=size.text_layers,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        is_encoder_decoder=False,
    )
    return UMT5EncoderModel(config)


def build_transformer(size: ModelSize) -> WanTransformer3DModel:
    """A Wan transformer with random weights, started so that every block is near the identity."""
    model = WanTransformer3DModel(
        patch_size=(1, size.patch, size.patch),
        num_attention_heads=size.num_heads,
        attention_head_dim=size.head_dim,
        in_channels=size.z_dim,
        out_channels=size.z_dim,
        text_dim=size.text_dim,
        freq_dim=128,
        ffn_dim=size.ffn_dim,
        num_layers=size.num_layers,
        rope_max_seq_len=64,
    )
    with torch.no_grad():
        model.proj_out.weight.zero_()
        model.proj_out.bias.zero_()
        model.condition_embedder.time_proj.weight.mul_(0.1)
        model.condition_embedder.time_proj.bias.zero_()
        for block in model.blocks:
            block.scale_shift_table.zero_()
            block.scale_shift_table[:, [2, 5]] = 0.3  # gates of attention and feed-forward
            block.attn2.to_out[0].weight.mul_(0.3)
    return model


class PaddedTextProcessor(WanAttnProcessor):
    """Cross-attention as if the text were padded to another length.

    Wan attends to padding, whose tokens are all equal: n of them weigh as much as one whose logit is raised by log n.
    `bias` `(B, 1, 1, L)` is added to the logits, so that training meets every length at the cost of the shortest.
    """

    bias: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        """As the processor of diffusers."""
        return super().__call__(attn, hidden_states, encoder_hidden_states, self.bias, rotary_emb)


def encode_captions(encoder: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Text embeddings `(B, L, D)` with padding zeroed, as `WanPipeline` makes them."""
    return encoder(ids, mask).last_hidden_state * mask[..., None]


def assemble(
    tokenizer: PreTrainedTokenizerFast,
    encoder: UMT5EncoderModel,
    vae: TinyWanVAE,
    transformer: WanTransformer3DModel,
) -> WanPipeline:
    """The pipeline, with the scheduler that Wan uses at small sizes (shift 3)."""
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT),
    )


def load_pipeline(folder: str | Path) -> WanPipeline:
    """The pipeline in a folder, in float32 and without a progress bar."""
    pipeline = WanPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
