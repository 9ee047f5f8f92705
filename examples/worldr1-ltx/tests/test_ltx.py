"""The contracts of World-R1 on a tiny random LTX-Video, saved and loaded as the released one is."""

import functools
import tempfile

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from transformers import T5Config, T5EncoderModel, T5TokenizerFast
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_core.testing import backbone_checks, plugin_checks

from worldr1_ltx.backbone import LTXBackbone

WORDS = "camera push in pan left a red ball on the floor bright room".split()
FOLDER = tempfile.TemporaryDirectory()


@functools.cache
def checkpoint():
    """Folder of a tiny random pipeline in the layout of the released one."""
    torch.manual_seed(0)
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS)]
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=16,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        patch_size=1,
    )
    text_encoder = T5EncoderModel(T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    tokenizer = T5TokenizerFast(vocab=[(piece, -float(i > 2)) for i, piece in enumerate(pieces)], extra_ids=0)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)
    LTXPipeline(scheduler, vae, text_encoder, tokenizer, transformer).save_pretrained(FOLDER.name)
    return FOLDER.name


def tiny_ltx():
    return LTXBackbone(path=checkpoint(), height=32, width=32, num_frames=9, max_sequence_length=16)


CHECKS = [*plugin_checks("worldr1_ltx"), *backbone_checks(tiny_ltx, sampler=FlowSDESampler())]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check):
    check()
