"""Vision-language models of a few thousand random weights, built offline and saved in the layout of released ones."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

ARCHITECTURES = ("qwen3-vl", "qwen2.5-vl", "internvl", "gemma3")

CHAT = ["<|im_start|>", "<|im_end|>"]
QWEN = [*CHAT, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
INTERN = [*CHAT, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
GEMMA = ["<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]


def chat_template(start: str, end: str, image: str, assistant: str = "assistant", bos: str = "") -> str:
    """A Jinja chat template that writes one role header a message and a placeholder an image."""
    return (
        f"{bos}{{%- for m in messages -%}}{start}{{{{ m.role }}}}\n"
        "{%- if m.content is string -%}{{ m.content }}{%- else -%}{%- for c in m.content -%}"
        f"{{%- if c.type == 'image' -%}}{image}"
        "{%- elif c.type == 'text' -%}{{ c.text }}{%- endif -%}{%- endfor -%}{%- endif -%}"
        f"{end}\n{{%- endfor -%}}{{%- if add_generation_prompt -%}}{start}{assistant}\n{{% endif %}}"
    )


def byte_tokenizer(
    special: list[str], *, bos: str | None = None, end: str = "<|im_end|>", **extra: str
) -> Qwen2Tokenizer:
    """A tokenizer of 256 bytes and the given special tokens."""
    vocab = {char: index for index, char in enumerate(sorted(ByteLevel.alphabet()))}
    vocab["<|endoftext|>"] = len(vocab)
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=[],
        eos_token=end,
        bos_token=bos,
        pad_token="<|endoftext|>",
        extra_special_tokens={**extra, **{f"token_{i}": t for i, t in enumerate(special) if t not in extra.values()}},
        model_max_length=32768,
    )


def _text(vocab_size: int, **more: object) -> dict[str, object]:
    return dict(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=256,
        **more,
    )


def _image_processor(patch: int) -> Qwen2VLImageProcessor:
    return Qwen2VLImageProcessor(
        patch_size=patch,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": (2 * patch) ** 2, "longest_edge": 256 * 256},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def _qwen3() -> tuple[torch.nn.Module, object]:
    tokenizer = byte_tokenizer(QWEN)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN}
    template = chat_template(CHAT[0], CHAT[1], "<|vision_start|><|image_pad|><|vision_end|>")
    size = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 64}
    processor = Qwen3VLProcessor(
        tokenizer=tokenizer,
        chat_template=template,
        image_processor=_image_processor(16),
        video_processor=Qwen3VLVideoProcessor(size=size),
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=_text(len(tokenizer), rope_parameters=rope),
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return Qwen3VLForConditionalGeneration(config), processor


def _qwen2_5() -> tuple[torch.nn.Module, object]:
    tokenizer = byte_tokenizer(QWEN)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN}
    template = chat_template(CHAT[0], CHAT[1], "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen2_5_VLProcessor(
        tokenizer=tokenizer,
        chat_template=template,
        image_processor=_image_processor(14),
        video_processor=Qwen2VLVideoProcessor(),
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    config = Qwen2_5_VLConfig(
        text_config=_text(len(tokenizer), rope_parameters=rope),
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _internvl() -> tuple[torch.nn.Module, object]:
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = byte_tokenizer(INTERN, **names)
    processor = InternVLProcessor(
        tokenizer=tokenizer,
        chat_template=chat_template(CHAT[0], CHAT[1], "<IMG_CONTEXT>\n"),
        image_seq_length=4,
        image_processor=GotOcr2ImageProcessor(
            size={"height": 32, "width": 32}, min_patches=1, max_patches=2, crop_to_patches=False
        ),
        video_processor=InternVLVideoProcessor(size={"height": 32, "width": 32}),
    )
    config = InternVLConfig(
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": [32, 32],
            "patch_size": [8, 8],
        },
        text_config=_text(len(tokenizer), model_type="qwen2"),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        downsample_ratio=0.5,
    )
    return InternVLForConditionalGeneration(config), processor


def _gemma3() -> tuple[torch.nn.Module, object]:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = byte_tokenizer(GEMMA, bos="<bos>", end="<end_of_turn>", **names)
    template = chat_template("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "model", bos="{{ bos_token }}")
    processor = Gemma3Processor(
        tokenizer=tokenizer,
        chat_template=template,
        image_seq_length=4,
        image_processor=Gemma3ImageProcessor(size={"height": 32, "width": 32}),
    )
    config = Gemma3Config(
        text_config=_text(len(tokenizer), sliding_window=64),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
    )
    return Gemma3ForConditionalGeneration(config), processor


_BUILDERS = {"qwen3-vl": _qwen3, "qwen2.5-vl": _qwen2_5, "internvl": _internvl, "gemma3": _gemma3}


def build_vlm(architecture: str, folder: Path) -> Path:
    """Save a tiny random model of one architecture; weights are drawn wide, so that answers differ between inputs."""
    torch.manual_seed(0)
    model, processor = _BUILDERS[architecture]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
