"""The closed language of the tiny world: captions that say everything about a clip, and the parser that reads them.

    Camera push in, then pan left. A red box and a blue ball in a green room with checker walls. The ball bounces.

The first sentence commands the camera in the words of `worldr1_core.camera.vocabulary`, the second describes the
scene, objects from left to right, and the optional third lets one object move.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from worldr1_core.camera.vocabulary import SINGLE_MOVES, Move, detect_moves
from worldr1_core.errors import UserError

COMPOSITES = (Move.PULL_LEFT, Move.PULL_RIGHT)
MOVE_PAIRS = tuple(itertools.permutations(SINGLE_MOVES, 2))
"""The 72 two-move prompts; a move is not commanded twice, as two pushes would leave the room."""

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "gray")
SHAPES = ("box", "ball", "cylinder", "cone", "pyramid")
TEXTURES = ("checker", "striped", "dotted", "brick", "plain")
MOTIONS = ("bounces", "slides left", "slides right")

_SINGLE_MOVE_WEIGHTS = torch.tensor([3.0 if move in (Move.PAN_LEFT, Move.PAN_RIGHT) else 1.0 for move in SINGLE_MOVES])
"""Pans are drawn three times as often: they bring the most new picture into view and are learnt last."""

HELD_OUT_SHARE = 10
"""One scene sentence in this many never appears in the training data."""

_OBJECT = rf"an? (?P<colour{{0}}>{'|'.join(COLOURS)}) (?P<shape{{0}}>{'|'.join(SHAPES)})"
_SCENE = re.compile(
    rf"{_OBJECT.format(0)}(?: and {_OBJECT.format(1)})? in an? (?P<room>{'|'.join(COLOURS)}) room "
    rf"with (?P<texture>{'|'.join(TEXTURES)}) walls\.",
    re.IGNORECASE,
)
_MOTION = re.compile(
    rf"the (?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)}) (?P<motion>{'|'.join(MOTIONS)})\.",
    re.IGNORECASE,
)


class CaptionError(UserError):
    """A caption is not in the tiny world's language."""


@dataclass(frozen=True, slots=True)
class Caption:
    """Content of a clip of the tiny world.

    Attributes:
        moves: Camera words in order; empty where the caption does not command the camera.
        objects: `(colour, shape)` of one or two objects of different colours, from left to right.
        room: Colour of the walls, different from the objects'.
        texture: Pattern of the walls.
        motion: `(index of the object, one of MOTIONS)`, or `None` for a static world.
    """

    moves: tuple[Move, ...]
    objects: tuple[tuple[str, str], ...]
    room: str
    texture: str
    motion: tuple[int, str] | None = None

    @property
    def camera_sentence(self) -> str:
        """E.g. `"Camera push in, then pan left."`; empty without moves."""
        return f"Camera {', then '.join(move.phrase for move in self.moves)}." if self.moves else ""

    @property
    def scene_sentence(self) -> str:
        """E.g. `"A red box and a blue ball in a green room with checker walls."`."""
        objects = " and ".join(f"{_with_article(colour)} {shape}" for colour, shape in self.objects)
        return f"{objects.capitalize()} in {_with_article(self.room)} room with {self.texture} walls."

    @property
    def motion_sentence(self) -> str:
        """E.g. `"The blue ball bounces."`; empty for a static world."""
        if self.motion is None:
            return ""
        index, motion = self.motion
        return f"The {' '.join(self.objects[index])} {motion}."

    @property
    def text(self) -> str:
        """The caption."""
        return " ".join(filter(None, (self.camera_sentence, self.scene_sentence, self.motion_sentence)))

    @property
    def held_out(self) -> bool:
        """True if the scene sentence belongs to the held-out split, which its CRC-32 alone decides."""
        return zlib.crc32(self.scene_sentence.encode()) % HELD_OUT_SHARE == 0


def parse_caption(text: str) -> Caption:
    """Read a caption.

    Raises:
        CaptionError: The text is not in the language.

    Example:
        >>> parse_caption("Camera fixed. A red box in a blue room with plain walls.").objects
        (('red', 'box'),)
    """
    scene = _SCENE.search(text)
    if scene is None:
        raise CaptionError(
            f"{text!r} is not a caption of the tiny world. Allowed is e.g. 'Camera push in. A red box and a blue ball "
            f"in a green room with checker walls.' with colours {COLOURS}, shapes {SHAPES} and textures {TEXTURES}."
        )
    found = {key: value.lower() for key, value in scene.groupdict().items() if value}
    objects = tuple((found[f"colour{i}"], found[f"shape{i}"]) for i in (0, 1) if f"colour{i}" in found)
    caption = Caption(tuple(detect_moves(text)), objects, found["room"], found["texture"], _motion(text, objects))
    if " ".join(text.lower().split()) != caption.text.lower():
        raise CaptionError(f"{text!r} holds words that are not in the tiny world's language. Read: {caption.text!r}.")
    return caption


def sample_caption(
    generator: torch.Generator, *, moves: Sequence[Move] | None = None, held_out: bool = False, dynamic: float = 0.15
) -> Caption:
    """Draw a caption of one split.

    Args:
        generator: Source of randomness.
        moves: Camera words; by default one of the nine (62 %, pans three times as often), two of them (25 %), a
            composite (8 %) or none (5 %).
        held_out: Which split the scene must belong to.
        dynamic: Share of captions in which an object moves, in [0, 1].
    """
    while True:
        caption = _draw(generator, draw_moves(generator) if moves is None else tuple(moves), dynamic)
        if caption.held_out == held_out:
            return caption


def held_out_captions(count: int, seed: int = 0) -> list[Caption]:
    """Static held-out captions that command the nine single moves in turn: the test set of caption following."""
    generator = torch.Generator().manual_seed(seed)
    return [
        sample_caption(generator, moves=[SINGLE_MOVES[i % len(SINGLE_MOVES)]], held_out=True, dynamic=0.0)
        for i in range(count)
    ]


def vocabulary_words() -> list[str]:
    """Every word and sign that captions are made of, lower case, without repetition."""
    camera = [word for move in Move for word in move.phrase.split()]
    motion = [word for phrase in MOTIONS for word in phrase.split()]
    frame = ["camera", ",", "then", ".", "a", "an", "and", "in", "room", "with", "walls", "the"]
    return list(dict.fromkeys([*frame, *camera, *COLOURS, *SHAPES, *TEXTURES, *motion]))


def _with_article(colour: str) -> str:
    return f"an {colour}" if colour == "orange" else f"a {colour}"


def _motion(text: str, objects: tuple[tuple[str, str], ...]) -> tuple[int, str] | None:
    found = _MOTION.search(text)
    if found is None:
        return None
    named = (found["colour"].lower(), found["shape"].lower())
    if named not in objects:
        raise CaptionError(f"The moving object {' '.join(named)!r} is not among {[' '.join(o) for o in objects]}.")
    return objects.index(named), found["motion"].lower()


def draw_moves(generator: torch.Generator) -> tuple[Move, ...]:
    """Random camera words, as `sample_caption` draws them; none in 5 % of the draws."""
    kind = float(torch.rand((), generator=generator))
    if kind < 0.62:
        return (SINGLE_MOVES[int(torch.multinomial(_SINGLE_MOVE_WEIGHTS, 1, generator=generator))],)
    if kind < 0.87:
        return MOVE_PAIRS[draw_index(generator, len(MOVE_PAIRS))]
    return (COMPOSITES[draw_index(generator, 2)],) if kind < 0.95 else ()


def _draw(generator: torch.Generator, moves: tuple[Move, ...], dynamic: float) -> Caption:
    count = 1 + draw_index(generator, 2)
    colours = [COLOURS[i] for i in torch.randperm(len(COLOURS), generator=generator)[: count + 1].tolist()]
    objects = tuple((colours[i], SHAPES[draw_index(generator, len(SHAPES))]) for i in range(count))
    texture = TEXTURES[draw_index(generator, len(TEXTURES))]
    motion = None
    if float(torch.rand((), generator=generator)) < dynamic:
        index = draw_index(generator, count)
        outward = MOTIONS[1 + index] if count == 2 else MOTIONS[1 + draw_index(generator, 2)]
        motion = (index, MOTIONS[0] if draw_index(generator, 2) else outward)
    return Caption(moves, objects, colours[count], texture, motion)


def draw_index(generator: torch.Generator, high: int) -> int:
    """A random whole number from 0 to `high` - 1."""
    return int(torch.randint(high, (), generator=generator))
