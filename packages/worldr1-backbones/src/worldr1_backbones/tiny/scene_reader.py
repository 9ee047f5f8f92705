"""A small convolutional network that reads single frames of the tiny world: where objects are, and what they look like.

It sees neither the prompt nor other frames; `text_alignment` compares its predictions with the caption.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from worldr1_backbones.tiny.captions import COLOURS, SHAPES, TEXTURES
from worldr1_backbones.tiny.scenes import IMAGE_SIZE
from worldr1_core.errors import WeightsError

GRID = 8
"""Cells of the map along each side; a cell has 8 x 8 pixels."""
JUDGE = Path(__file__).parent / "judge"
"""Folder of the shipped weights and of their measurements."""
WEIGHTS = "weights.safetensors"
_CHUNK = 144
"""Frames at a time, so that activations stay in the cache."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Predictions of the network for frames; `...` are any leading dimensions, such as clips and frames.

    Attributes:
        cover: `(..., 8, G, G)` share of each cell that an object of each of `COLOURS` covers, in [0, 1].
        shape: `(..., 5, G, G)` logits of `SHAPES`, of the object in the cell.
        room: `(..., 8)` logits of the room's colour.
        texture: `(..., 5)` logits of the walls' texture.
    """

    cover: Tensor
    shape: Tensor
    room: Tensor
    texture: Tensor


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(width, width), *_convolution(width, width)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.body(x))


class SceneReader(nn.Module):
    """The network.

    Args:
        width: Channels on the grid; half and a quarter of them before.
        num_blocks: Residual blocks on the grid.
    """

    fill: Tensor

    def __init__(self, width: int = 64, num_blocks: int = 2) -> None:
        super().__init__()
        quarter, half = width // 4, width // 2
        self.stem = nn.Sequential(
            *_convolution(3, quarter, size=5, stride=2),
            *_convolution(quarter, half, stride=2),
            *_convolution(half, half),
            *_convolution(half, width, stride=2),
        )
        self.blocks = nn.Sequential(*(_Residual(width) for _ in range(num_blocks)))
        self.map = nn.Conv2d(width, 1 + len(COLOURS) + len(SHAPES), 1)
        self.summary = nn.Linear(2 * width, len(COLOURS) + len(TEXTURES))
        self.register_buffer("fill", torch.ones(len(SHAPES)))
        """Share of the square around a solid that each shape covers; measured on renders, not learnt."""

    def logits(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of frames.

        Args:
            frames: `(N, 3, 64, 64)` in [0, 1].

        Returns:
            Nothing or an object's colour `(N, 9, G, G)`, shapes `(N, 5, G, G)`, room `(N, 8)`, texture `(N, 5)`.
        """
        h = self.blocks(self.stem(frames * 4 - 2))
        kinds, shape = self.map(h).split((1 + len(COLOURS), len(SHAPES)), dim=1)
        room, texture = self.summary(torch.cat([h.mean((2, 3)), h.amax((2, 3))], dim=1)).split(
            (len(COLOURS), len(TEXTURES)), dim=1
        )
        return kinds, shape, room, texture

    @torch.no_grad()
    def read(self, frames: Tensor) -> Reading:
        """Read clips without a gradient; see `forward`."""
        return self(frames)

    def forward(self, frames: Tensor) -> Reading:
        """Read clips.

        Args:
            frames: `(..., 3, 64, 64)` in [0, 1].

        Raises:
            ValueError: Frames have another form.
        """
        if frames.ndim < 4 or frames.shape[-3:] != (3, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                f"Frames must be (..., 3, {IMAGE_SIZE}, {IMAGE_SIZE}), received shape {tuple(frames.shape)!r}."
            )
        lead = frames.shape[:-3]
        parts = [self.logits(chunk) for chunk in frames.flatten(0, -4).split(_CHUNK)]
        kinds, shape, room, texture = (torch.cat(part).unflatten(0, lead) for part in zip(*parts, strict=True))
        return Reading(kinds.softmax(-3)[..., 1:, :, :], shape, room, texture)


def save_reader(reader: SceneReader, folder: Path) -> None:
    """Write the weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value.contiguous()
        for name, value in reader.state_dict().items()
    }
    width, blocks = reader.map.in_channels, len(reader.blocks)
    save_file(state, folder / WEIGHTS, metadata={"width": str(width), "num_blocks": str(blocks)})


def load_reader(folder: Path = JUDGE, device: str = "cpu") -> SceneReader:
    """The network with the weights of a folder, ready to read.

    Raises:
        WeightsError: There are none, or they are of another form.
    """
    path = folder / WEIGHTS
    try:
        state = load_file(path)
        width = state["map.weight"].shape[1]
        blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
        reader = SceneReader(width, len(blocks))
        reader.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        )
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{path} holds no weights of the tiny world's judge: {error}. "
            "Install worldr1-backbones again, or make them with `python -m tools.tiny_world.fit_judge` in a checkout."
        ) from error
    return reader.eval().requires_grad_(False).to(device)


@lru_cache(maxsize=4)
def shipped_reader(device: str) -> SceneReader:
    """The shipped network, loaded once a device."""
    return load_reader(JUDGE, device)


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
