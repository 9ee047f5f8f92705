"""Sets of rendered clips with known defects: which columns order them, and which are blind to degenerate clips."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from worldr1_core.video import Video
from worldr1_rewards import evaluate
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.probes.plan import to_clip
from worldr1_rewards.probes.world import render_world

pytestmark = pytest.mark.slow

METRICS = (
    "psnr",
    "psnr-normalised",
    "ssim",
    "reconstruction",
    "consistency",
    "trajectory",
    "camera-errors",
    "camera-auc",
)
SCENE_COLUMNS = ("psnr", "psnr_normalised", "ssim", "reconstruction", "consistency")
"""Columns that should see a scene that changes."""
MOVES = ("push in", "pull out", "move left", "move right", "push in")
"""Travel without rotation; each through a scene of its own."""
SIZE, NUM_FRAMES = (64, 64), 9
MILD = 0.3
"""Severity of the mild set."""


def rendered(corruption="clean", severity=1.0, *, moves=MOVES):
    """One clip per move, each through another scene."""
    return [
        to_clip(
            render_world(
                "rich", move, seed=seed, size=SIZE, num_frames=NUM_FRAMES, corruption=corruption, severity=severity
            ),
            f"{move}, {corruption}",
        )
        for seed, move in enumerate(moves)
    ]


@pytest.fixture(scope="module")
def clean():
    return rendered()


@pytest.fixture(scope="module")
def ordered(clean):
    """The clean set, and sets in which the scene changes mildly and strongly."""
    return evaluate({"clean": clean, "mild": rendered("morph", MILD), "strong": rendered("morph")}, metrics=METRICS)


@pytest.mark.parametrize("column", SCENE_COLUMNS)
def test_columns_order_the_sets_with_intervals_that_do_not_overlap(ordered, column):
    cells = ordered.summary.cells["all", "all"]
    estimates = [cells[name][column].estimate for name in ("clean", "mild", "strong")]
    for better, worse in itertools.pairwise(estimates):
        assert better.low > worse.high, f"{column}: {better} and {worse}"


@pytest.fixture(scope="module")
def degenerate(clean):
    """Pure noise, the first frame again and again, and the first three frames in turn, beside the clean clips."""
    sets = {
        "clean": clean,
        "noise": rendered("pure_noise"),
        "still": rendered("frozen"),
        "repeated": [
            replace(clip, video=Video(clip.video.frames[[t % 3 for t in range(NUM_FRAMES)]])) for clip in clean
        ],
    }
    return evaluate(sets, metrics=METRICS)


@pytest.mark.parametrize("kind", ["noise", "still", "repeated"])
def test_degenerate_clips_are_caught_in_every_column_that_does_not_declare_to_be_blind(degenerate, kind):
    blind, caught = [], []
    for column in degenerate.columns:
        clean, found = (degenerate.summary.cells["all", "all"][name][column.name] for name in ("clean", kind))
        sees = found.num_failed == found.num_videos or _is_worse(found.estimate, clean.estimate, column)
        (caught if sees else blind).append(column.name)
    assert blind == [column.name for column in degenerate.columns if kind in column.blind_to]
    assert caught


def _is_worse(found, clean, column: Column) -> bool:
    return found.high < clean.low if column.higher_is_better else found.low > clean.high
