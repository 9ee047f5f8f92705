"""The `Video` type: the form it guarantees."""

import math

import pytest
import torch

from worldr1_core.errors import UserError, VideoError
from worldr1_core.video import Video


def test_shape_and_rate_are_reported():
    video = Video(torch.zeros(5, 3, 6, 8), fps=24)
    assert (video.num_frames, video.size, video.fps) == (5, (6, 8), 24)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(3, 6, 8), r"received \(3, 6, 8\)"),
        (torch.zeros(5, 6, 8, 3), r"received \(5, 6, 8, 3\)"),
        (torch.zeros(0, 3, 6, 8), r"received \(0, 3, 6, 8\)"),
        ([[1.0]], "received 'list'"),
        (torch.zeros(5, 3, 6, 8, dtype=torch.uint8), "received torch.uint8. Divide uint8 by 255"),
        (torch.full((1, 3, 2, 2), math.nan), "12 values are NaN or infinite"),
        (torch.tensor([0.5] * 11 + [-math.inf]).view(1, 3, 2, 2), "1 values are NaN or infinite"),
        (torch.full((1, 3, 2, 2), 1.1), r"must lie in \[0, 1\], received \[1.1, 1.1\]"),
        (torch.full((1, 3, 2, 2), -0.2), r"received \[-0.2, -0.2\]"),
    ],
)
def test_frames_of_another_form_are_refused(frames, message):
    with pytest.raises(VideoError, match=message):
        Video(frames)


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_the_frame_rate_must_be_positive(fps):
    with pytest.raises(VideoError, match="fps must be positive"):
        Video(torch.zeros(1, 3, 2, 2), fps=fps)


def test_messages_name_the_source():
    with pytest.raises(VideoError, match=r"clips/a\.mp4: values must lie"):
        Video(torch.full((1, 3, 2, 2), 2.0), source="clips/a.mp4")
    assert issubclass(VideoError, UserError)
    assert VideoError.exit_code == 2
