"""Tiny random preference models, saved under the key names of the released checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen2VLConfig, Qwen2VLImageProcessor, Qwen2VLModel, Qwen2VLProcessor, Qwen2VLVideoProcessor

from judges.tiny_vlm import QWEN, byte_tokenizer, chat_template

ARCHITECTURE = "tiny-hps"
INSTRUCTION = "Rate the picture.\nText - {text_prompt}\n\nRating: <|Reward|>\nEND\n"


def register_tiny_clip(folder: Path) -> None:
    """Make `ARCHITECTURE` known to open_clip: a ViT of one block, otherwise laid out as ViT-H-14."""
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 28, "layers": 1, "width": 16, "head_width": 8, "patch_size": 14},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    path = folder / f"{ARCHITECTURE}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)


def hpsv2_state() -> dict[str, torch.Tensor]:
    """Random tensors under the names of the released HPSv2.1 checkpoint."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng) * 0.3

    def block(prefix: str) -> dict[str, torch.Tensor]:
        shapes = {
            "ln_1.weight": (16,),
            "ln_1.bias": (16,),
            "attn.in_proj_weight": (48, 16),
            "attn.in_proj_bias": (48,),
            "attn.out_proj.weight": (16, 16),
            "attn.out_proj.bias": (16,),
            "ln_2.weight": (16,),
            "ln_2.bias": (16,),
            "mlp.c_fc.weight": (64, 16),
            "mlp.c_fc.bias": (64,),
            "mlp.c_proj.weight": (16, 64),
            "mlp.c_proj.bias": (16,),
        }
        return {f"{prefix}.{name}": draw(*shape) for name, shape in shapes.items()}

    return {
        "positional_embedding": draw(77, 16),
        "text_projection": draw(16, 8),
        "logit_scale": torch.tensor(4.6),
        "visual.class_embedding": draw(16),
        "visual.positional_embedding": draw(5, 16),
        "visual.proj": draw(16, 8),
        "visual.conv1.weight": draw(16, 3, 14, 14),
        "visual.ln_pre.weight": draw(16),
        "visual.ln_pre.bias": draw(16),
        **block("visual.transformer.resblocks.0"),
        "visual.ln_post.weight": draw(16),
        "visual.ln_post.bias": draw(16),
        **block("transformer.resblocks.0"),
        "token_embedding.weight": draw(49408, 16),
        "ln_final.weight": draw(16),
        "ln_final.bias": draw(16),
    }


def save_hpsv2(folder: Path, state: dict[str, torch.Tensor] | None = None) -> Path:
    """A checkpoint file named and nested as the released one."""
    path = folder / "HPS_v2.1_compressed.pt"
    torch.save({"epoch": 0, "name": "hps", "state_dict": hpsv2_state() if state is None else state}, path)
    return path


def build_base(folder: Path) -> tuple[Qwen2VLConfig, Qwen2VLProcessor]:
    """Configuration and processor of a tiny Qwen2-VL; no weights, as none of the base's are used."""
    tokenizer = byte_tokenizer(QWEN)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN}
    image_processor = Qwen2VLImageProcessor(
        patch_size=4,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 8 * 8, "longest_edge": 256 * 256},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor = Qwen2VLProcessor(
        tokenizer=tokenizer,
        chat_template=chat_template("<|im_start|>", "<|im_end|>", "<|vision_start|><|image_pad|><|vision_end|>"),
        image_processor=image_processor,
        video_processor=Qwen2VLVideoProcessor(patch_size=4, merge_size=2),
    )
    text = {
        "vocab_size": len(tokenizer) + 40,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
    }
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return config, processor


def hpsv3_reference(config: Qwen2VLConfig, num_tokens: int) -> tuple[Qwen2VLModel, nn.Sequential]:
    """A random backbone whose embedding has one row a token, and a random head."""
    torch.manual_seed(1)
    config.text_config.vocab_size = num_tokens
    model = Qwen2VLModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    head = nn.Sequential(
        nn.Linear(32, 24), nn.ReLU(), nn.Dropout(0.05), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 2)
    ).eval()
    return model, head


def hpsv3_state(model: Qwen2VLModel, head: nn.Sequential, layout: str) -> dict[str, torch.Tensor]:
    """Tensors under released names: `"old"` is `model.*` beside `visual.*`, `"new"` nests both under `model`."""
    state = {"lm_head.weight": model.get_input_embeddings().weight.detach().clone()}
    for key, value in model.state_dict().items():
        old = key if key.startswith("visual.") else "model." + key.removeprefix("language_model.")
        state[old if layout == "old" else f"model.{key}"] = value.clone()
    return state | {f"rm_head.{key}": value.clone() for key, value in head.state_dict().items()}


def save_hpsv3(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    """A checkpoint file named as the released one."""
    path = folder / "HPSv3.safetensors"
    save_file(state, path)
    return path
