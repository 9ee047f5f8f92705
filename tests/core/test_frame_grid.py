"""The picture of labelled rows of frames: where tiles and words go, and what becomes of their size."""

from __future__ import annotations

import itertools

import pytest
import torch
from PIL import Image
from torch import Tensor

from worldr1_core.frame_grid import frame_grid, pick_frames


def flat(*greys: float, size: tuple[int, int] = (20, 30)) -> Tensor:
    """Frames of one grey each, `(N, 3, H, W)`."""
    return torch.stack([torch.full((3, *size), grey) for grey in greys])


def ink(picture: Image.Image, box: tuple[int, int, int, int]) -> bool:
    """Whether something dark was drawn in a box of a white picture."""
    low, _ = picture.crop(box).convert("L").getextrema()
    return low < 128


@pytest.mark.parametrize(("num_frames", "count"), [(1, 8), (7, 8), (8, 8), (9, 8), (17, 8), (81, 8), (1000, 5)])
def test_picked_frames_are_even_and_hold_both_ends(num_frames: int, count: int) -> None:
    picked = pick_frames(num_frames, count)
    assert len(picked) == min(num_frames, count)
    assert (picked[0], picked[-1]) == (0, num_frames - 1)
    steps = {after - before for before, after in itertools.pairwise(picked)}
    assert len(steps) <= 2
    assert min(steps, default=1) >= 1


def test_a_single_picked_frame_is_the_first() -> None:
    assert pick_frames(9, 1) == [0]


def test_without_gap_and_labels_the_tiles_alone_make_the_picture() -> None:
    frames = torch.rand(3, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    picture = frame_grid([frames], gap=0)
    expected = (torch.cat(list(frames), dim=2).permute(1, 2, 0) * 255).round().byte()
    assert picture.size == (30, 8)
    assert picture.tobytes() == bytes(expected.flatten().tolist())


def test_every_tile_has_its_place_beside_names_and_below_column_words() -> None:
    picture = frame_grid([flat(0.2, 0.8), flat(0.8, 0.2)], names=["input", "depth"], columns=["0", "9"])
    colours = [
        picture.getpixel((picture.width - 15 - (1 - column) * 34, picture.height - 10 - (1 - row) * 24))
        for row in (0, 1)
        for column in (0, 1)
    ]
    assert colours == [(51,) * 3, (204,) * 3, (204,) * 3, (51,) * 3]
    margin = picture.width - 2 * 30 - 4
    assert ink(picture, (0, 16, margin, 40))
    assert ink(picture, (margin, 0, picture.width, 16))


def test_a_title_takes_a_line_above_its_row_and_an_empty_one_none() -> None:
    plain = frame_grid([flat(1.0), flat(1.0)])
    titled = frame_grid([flat(1.0), flat(1.0)], titles=["", "word"])
    assert titled.height == plain.height + 16
    assert not ink(titled, (0, 0, titled.width, 24))
    assert ink(titled, (0, 24, titled.width, 40))


def test_a_title_that_is_too_long_ends_inside_the_picture() -> None:
    picture = frame_grid([flat(1.0, size=(20, 60))], titles=["word " * 50])
    assert ink(picture, (36, 0, 58, 16))
    assert not ink(picture, (58, 0, 60, 16))


def test_whole_multiples_repeat_pixels() -> None:
    frames = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    picture = frame_grid([frames], side=12, gap=0)
    expected = frames[0].repeat_interleave(3, 1).repeat_interleave(3, 2).permute(1, 2, 0)
    assert picture.tobytes() == bytes((expected * 255).round().byte().flatten().tolist())


def test_the_longer_side_is_the_one_that_is_asked_for() -> None:
    assert frame_grid([flat(0.5, size=(30, 40))], side=20, gap=0).size == (20, 15)
    assert frame_grid([flat(0.5, size=(40, 30))], side=100, gap=0).size == (75, 100)


def test_rows_of_different_lengths_leave_white_at_the_end() -> None:
    picture = frame_grid([flat(0.0, 0.0), flat(0.0)], gap=0)
    assert picture.getpixel((45, 30)) == (255, 255, 255)
    assert picture.getpixel((45, 10)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ([], {}, "at least one row"),
        ([torch.zeros(2, 1, 4, 4)], {}, r"received shape \(2, 1, 4, 4\)"),
        ([torch.zeros(2, 3, 4, 4)], {"names": ["a", "b"]}, "`names` per row: received 2 for 1"),
        ([torch.zeros(2, 3, 4, 4)], {"titles": []}, "`titles` per row: received 0 for 1"),
    ],
)
def test_rows_and_labels_that_do_not_fit_are_refused(rows: list[Tensor], labels: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frame_grid(rows, **labels)
