"""Sets of rendered clips with known defects: which columns order them, and which are blind to degenerate clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch
import torchvision
from corrupted_sets import (
    ASTRAY,
    CLEAN,
    DEGENERATE,
    JITTER,
    MORPH,
    SLOW,
    Defect,
    Rendered,
    degenerate_sets,
    find_order,
    is_caught,
    ordered_sets,
)

from worldr1_core.component import load_component
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.plugins import installed
from worldr1_core.registry import register
from worldr1_core.reward import Requirement
from worldr1_rewards import EvalResult, evaluate
from worldr1_rewards.rewards import lpips_net

SWEPT = ("camera-accuracy", "camera-move-likelihood", "path-rerender")
"""Rewards that judge the third dimension without a reconstruction."""
NOT_3D: Mapping[str, tuple[str, ...]] = {
    "pictures, one by one or by their likeness": (
        *("aesthetic-quality", "imaging-quality", "preference", "vbench-package"),
        *("background-consistency", "subject-consistency", "flow-smoothness"),
    ),
    "statistics of pixels": (
        *("column-variance", "contrast", "gradient-x", "gradient-y", "mean-gradient", "motion", "row-variance"),
        "sharpness-evenness",
        *("statistics-threshold", "statistics-vs-reference", "typical-gradient-x", "typical-gradient-y"),
    ),
    "the tiny world's own": ("tiny-object-pixels", "tiny-text-alignment"),
}
"""What is measured -> rewards that say nothing about the third dimension and need not catch these clips."""
TRAVEL = ("push in", "pull out", "move left", "move right", "push in")
"""Travel without rotation; each through a scene of its own."""
ORBITS = ("orbit left", "orbit right", "orbit left", "orbit right", "orbit left")
"""Travel and rotation."""
SIZE, NUM_FRAMES = 64, 9


class OneGrade(Judge):
    """Gives every view the same grade."""

    def grade(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        return [JudgeResult(0.5, mass=1.0) for _ in requests]


def rewards_of_3d() -> list[str]:
    """All registered rewards that judge the third dimension."""
    registry = installed().registry
    reading = [
        name
        for name in registry.names("reward")
        if Requirement.RECONSTRUCTION in load_component(registry, "reward", name).requires
    ]
    return [*reading, *SWEPT]


def test_every_registered_reward_is_walked_or_says_nothing_about_3d() -> None:
    """A new reward must be listed here, or reads a reconstruction and is caught by the tests below."""
    listed = [*rewards_of_3d(), *(name for names in NOT_3D.values() for name in names)]
    assert sorted(listed) == sorted(installed().registry.names("reward"))


@pytest.fixture(scope="module")
def with_judge_and_lpips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a judge with one grade for every view, and AlexNet with random weights: neither may be what catches."""
    folder = tmp_path_factory.mktemp("torch")
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    weights = torchvision.models.alexnet(weights=None).state_dict()
    torch.save(weights, folder / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(folder))
        patch.setattr(lpips_net, "_nets", {})
        register("judge", "one-grade", OneGrade)
        yield "one-grade"
    installed.cache_clear()


@pytest.fixture(scope="module")
def degenerate(with_judge_and_lpips: str) -> EvalResult:
    """Pure noise, the first frame again and again, and the first three frames in turn, beside the clean clips."""
    source = Rendered(TRAVEL, SIZE, NUM_FRAMES)
    manifest = {
        "version": 1,
        "reconstructor": {"name": "auto"},
        "judge": {"name": with_judge_and_lpips},
        "rewards": [{"name": name} for name in rewards_of_3d()],
    }
    return evaluate({CLEAN: source.make(CLEAN)} | degenerate_sets(source), manifest=manifest)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_clips_are_caught_in_every_3d_column_that_does_not_declare_to_be_blind(
    degenerate: EvalResult, kind: str
) -> None:
    caught = {column.name: is_caught(degenerate, column, kind) for column in degenerate.columns}
    declared = {column.name: kind not in column.blind_to for column in degenerate.columns}
    assert caught == declared


@pytest.fixture(scope="module")
def scene() -> EvalResult:
    """The clean set, and sets in which the scene changes mildly and strongly."""
    metrics = ("psnr", "psnr-normalised", "ssim", "reconstruction", "consistency")
    return evaluate(ordered_sets(Rendered(TRAVEL, SIZE, NUM_FRAMES), [MORPH]), metrics=metrics)


@pytest.fixture(scope="module")
def camera() -> EvalResult:
    """The clean set, and sets whose camera leaves the commanded path mildly and strongly."""
    metrics = ("camera-errors", "camera-auc", "trajectory")
    return evaluate(ordered_sets(Rendered(ORBITS, SIZE, NUM_FRAMES), [ASTRAY, SLOW, JITTER]), metrics=metrics)


@pytest.mark.slow
def test_columns_of_the_scene_order_the_sets_with_intervals_that_do_not_overlap(scene: EvalResult) -> None:
    assert orders(scene, MORPH) == dict.fromkeys(set(MORPH.seen_by) - {"lpips"}, "ordered, apart")


@pytest.mark.slow
@pytest.mark.parametrize("defect", [ASTRAY, SLOW, JITTER], ids=lambda defect: defect.name)
def test_columns_of_the_camera_order_the_sets_with_intervals_that_do_not_overlap(
    camera: EvalResult, defect: Defect
) -> None:
    assert orders(camera, defect) == dict.fromkeys(defect.seen_by, "ordered, apart")


def orders(result: EvalResult, defect: Defect) -> dict[str, str]:
    """Column that should see a defect -> order of its sets."""
    known = [column for column in result.columns if column.name in defect.seen_by]
    return {column.name: str(find_order(result, column, defect)) for column in known}
