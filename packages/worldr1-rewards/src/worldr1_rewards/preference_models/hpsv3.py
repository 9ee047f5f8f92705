"""HPSv3: a Qwen2-VL of seven billion weights with a reward head (arXiv 2508.03789), on the current transformers.

The authors' package holds an old transformers fast, so their checkpoint is loaded here: its tensors are renamed to
today's names, the head is rebuilt, and three habits of the released code are kept because the weights were tuned with
them. The reward is read at the token `<|Reward|>`; positions count 0, 1, 2, ... for words and picture patches alike,
without Qwen2-VL's own picture positions; every picture is resized to about 256 patches.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from worldr1_core.errors import MissingExtraError, UserError
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.judges.images import to_pil
from worldr1_rewards.judges.prompts import remove_control_tokens
from worldr1_rewards.judges.transformers_judge import control_tokens
from worldr1_rewards.pretrained import (
    fill_strictly,
    find_file,
    from_pretrained,
    model_from_tensors,
    read_state_dict,
)

RELEASED = "MizzenAI/HPSv3"
FILENAME = "HPSv3.safetensors"
BASE = "Qwen/Qwen2-VL-7B-Instruct"

REWARD_TOKEN = "<|Reward|>"
NUM_PATCHES = 256
"""Merged picture patches that the released code asks for, at 28 × 28 pixels each."""

CENTRE, SCALE = 5.0, 5.0
"""Centre and width of the map to [0, 1]; rewards of generated pictures mostly lie between -5 and 15."""

_PLACEHOLDER = "{text_prompt}"
_SOURCE_FILE = Path("dataset", "data_collator_qwen.py")
_SOURCE_NAMES = ("INSTRUCTION", "prompt_with_special_token")
_RENAMED = (
    (re.compile(r"^model\.(visual|language_model)\."), r"\1."),
    (re.compile(r"^model\."), "language_model."),
)
_WHAT = "HPSv3"


class HPSv3:
    """Reward of a picture for a prompt; unbounded, higher is better.

    Args:
        source: Hub id, folder or file of the checkpoint.
        base: Qwen2-VL whose configuration and processor are used; its weights are not loaded.
        instruction: File with the instruction the model was tuned on, see `read_instruction`.
        device: Where to run.
        dtype: Type of the backbone; bfloat16 if `None`, as released. The head always runs in float32.

    Raises:
        WeightsError: The checkpoint or the base is not there, or does not fit.
        MissingExtraError: The instruction is not at hand.
    """

    def __init__(
        self,
        source: WeightsSource,
        base: WeightsSource,
        *,
        instruction: str | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        from transformers import AutoConfig, AutoProcessor, Qwen2VLModel

        self.instruction = read_instruction(instruction)
        state = read_state_dict(find_file(source, FILENAME, _WHAT), source, _WHAT)
        backbone, head = split_state(state, source)
        self.processor = from_pretrained(AutoProcessor, base, f"the processor of {_WHAT}")
        tokenizer = self.processor.tokenizer
        self.forbidden = [*control_tokens(self.processor), REWARD_TOKEN]
        tokenizer.add_tokens([REWARD_TOKEN], special_tokens=True)
        tokenizer.padding_side = "right"
        self.reward_id = int(tokenizer.convert_tokens_to_ids(REWARD_TOKEN))
        rows = backbone["language_model.embed_tokens.weight"].shape[0]
        if len(tokenizer) != rows:
            raise source.fail(
                _WHAT, f"it embeds {rows} tokens, while {base.name!r} with the reward token has {len(tokenizer)}"
            )
        config = from_pretrained(AutoConfig, base, f"the configuration of {_WHAT}")
        config.text_config.vocab_size = rows
        model = model_from_tensors(Qwen2VLModel, config, backbone, source, _WHAT, dtype=dtype or torch.bfloat16)
        self.model: Any = model.to(device).requires_grad_(False)
        self.head = fill_strictly(_build_head(head), head, source, _WHAT).to(device).requires_grad_(False)
        self.device = torch.device(device)

    def encode(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> dict[str, Tensor]:
        """Model inputs, padded on the right."""
        texts = [self._render(prompt) for prompt in prompts]
        processor = self.processor.image_processor
        resized = [[_resize(image, processor.patch_size * processor.merge_size)] for image in images]
        batch = self.processor(text=texts, images=resized, padding=True, do_resize=False, return_tensors="pt")
        return {key: value.to(self.device) for key, value in batch.items() if isinstance(value, Tensor)}

    def _render(self, prompt: str) -> str:
        text = self.instruction.replace(_PLACEHOLDER, remove_control_tokens(prompt, self.forbidden))
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        return str(self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    @torch.inference_mode()
    def outputs(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """Mean and uncertainty parameter of the reward, `(B, 2)` float32."""
        return self._run(self.encode(images, prompts))

    def _run(self, batch: Mapping[str, Tensor]) -> Tensor:
        ids = batch["input_ids"]
        positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
        hidden = self.model(
            input_ids=ids,
            attention_mask=batch["attention_mask"],
            pixel_values=batch["pixel_values"].to(next(self.model.parameters()).dtype),
            image_grid_thw=batch["image_grid_thw"],
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return self.head(hidden[ids == self.reward_id].float()).cpu()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """Mean rewards `(B,)` float32."""
        return self.outputs(images, prompts)[:, 0]

    def score_frames(self, frames: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score pictures as `score` does, with a gradient in their pixels.

        Pictures are rounded to 8 bits and scaled by Pillow, as for `score`. The gradient is that of the same scaling
        without rounding.

        Args:
            frames: `(B, 3, H, W)` RGB in [0, 1].
            prompts: B prompts.

        Returns:
            Mean rewards `(B,)` float32 on the CPU.
        """
        batch = self.encode(to_pil(frames), prompts)
        exact, smooth = batch["pixel_values"], self._patches(frames.to(self.device))
        return self._run({**batch, "pixel_values": smooth + (exact - smooth).detach()})[:, 0]

    def _patches(self, frames: Tensor) -> Tensor:
        """Patches as the processor lays them out, without its rounding: `(B * patches, values)`, differentiable.

        Patches that are merged stand beside each other; a picture fills every frame of its temporal patch.
        """
        processor = self.processor.image_processor
        patch, merge, repeats = processor.patch_size, processor.merge_size, processor.temporal_patch_size
        size = list(_target_size(frames.shape[-2], frames.shape[-1], patch * merge))
        resized = functional.interpolate(frames, size=size, mode="bicubic", antialias=True, align_corners=False)
        mean, std = (resized.new_tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
        pixels = (resized.clamp(0, 1) - mean) / std
        grid = pixels.unflatten(3, (-1, merge, patch)).unflatten(2, (-1, merge, patch))  # B, C, Y, my, py, X, mx, px
        values = grid.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, repeats, -1, -1)
        return values.flatten(5).flatten(0, 4)

    @staticmethod
    def to_unit_range(raw: Tensor) -> Tensor:
        """`to_unit` of tensors, with a gradient."""
        return torch.sigmoid((raw - CENTRE) / SCALE)

    @staticmethod
    def to_unit(raw: float) -> float:
        """Reward to [0, 1]: 1 / (1 + exp(−(raw − `CENTRE`) / `SCALE`)).

        Example:
            >>> round(HPSv3.to_unit(5.0), 6), round(HPSv3.to_unit(10.0), 6)
            (0.5, 0.731059)
        """
        return 0.5 * (1 + math.tanh((raw - CENTRE) / SCALE / 2))


def split_state(state: Mapping[str, Tensor], source: WeightsSource) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Released tensors as those of today's `Qwen2VLModel` and those of the head; the unused output layer is dropped.

    Both layouts of Qwen2-VL are understood: `model.layers…` beside `visual…`, and `model.language_model…` beside
    `model.visual…`.

    Raises:
        WeightsError: The embedding or the head is not among them.
    """
    backbone: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("rm_head."):
            head[key.removeprefix("rm_head.")] = value.float()
        elif not key.startswith("lm_head."):
            for pattern, replacement in _RENAMED:
                key, count = pattern.subn(replacement, key)
                if count:
                    break
            backbone[key] = value
    needed = {"language_model.embed_tokens.weight": backbone, "0.weight": head, "3.weight": head, "5.weight": head}
    absent = [key for key, tensors in needed.items() if key not in tensors]
    if absent:
        raise source.fail(_WHAT, f"this is no HPSv3 checkpoint: it lacks {absent}")
    return backbone, head


def _build_head(state: Mapping[str, Tensor]) -> nn.Module:
    """The reward head in the widths of its checkpoint: 3584 → 1024 → 16 → 2 as released."""
    first, second, last = state["0.weight"], state["3.weight"], state["5.weight"]
    return nn.Sequential(
        nn.Linear(first.shape[1], first.shape[0]),
        nn.ReLU(),
        nn.Dropout(0.05),
        nn.Linear(second.shape[1], second.shape[0]),
        nn.ReLU(),
        nn.Linear(last.shape[1], last.shape[0]),
    )


def _resize(image: Image.Image, patch: int) -> Image.Image:
    """Scale to about `NUM_PATCHES` patches with sides that are multiples of `patch`, by PIL's bicubic filter."""
    height, width = _target_size(image.height, image.width, patch)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _target_size(height: int, width: int, patch: int) -> tuple[int, int]:
    """Height and width of a resized picture."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    pixels = NUM_PATCHES * patch * patch
    size: tuple[int, int] = smart_resize(height, width, factor=patch, min_pixels=pixels, max_pixels=pixels)
    return size


def read_instruction(path: str | None) -> str:
    """The instruction that HPSv3 was tuned on, with the placeholder `{text_prompt}` and the token `<|Reward|>`.

    It is its authors' text and part of how the model is used, so it is taken from where they publish it: the two
    strings `INSTRUCTION` and `prompt_with_special_token` in their package, which is read and never run.

    Args:
        path: Text file that holds the two strings one after the other; the installed `hpsv3` package if `None`.

    Raises:
        MissingExtraError: No path is given and the package is not installed.
        UserError: The file cannot be read or is not the instruction.
    """
    if path is None:
        text, where = _instruction_of_package()
    else:
        where = path
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"Cannot read the HPSv3 instruction {path!r}: {error}. Give a text file.") from error
    if text.count(_PLACEHOLDER) != 1 or text.count(REWARD_TOKEN) != 1:
        raise UserError(
            f"The HPSv3 instruction in {where!r} must hold {_PLACEHOLDER!r} and {REWARD_TOKEN!r} once each. "
            "Copy both strings from the authors' package."
        )
    return text


def _instruction_of_package() -> tuple[str, str]:
    spec = importlib.util.find_spec("hpsv3")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = next((folder for folder in map(Path, folders) if (folder / _SOURCE_FILE).is_file()), None)
    if found is None:
        raise MissingExtraError(
            "HPSv3 needs the instruction it was tuned on, which its authors publish in their package. Get it with "
            "`pip install --no-deps hpsv3` (only that text is read), or name a file that holds it in `instruction`."
        )
    path = found / _SOURCE_FILE
    strings = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            strings[node.targets[0].id] = node.value.value
    return "".join(str(strings.get(name, "")) for name in _SOURCE_NAMES), str(path)
