"""The benchmark of real clips: its figures against known truth, its ranks, its bars, and what it does without clips."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_footage
import torch
from footage import measures, run, summary
from PIL import Image

from probes.footage_clips import SIZE, NearestClean, scorer_of, write_clip
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Reconstruction, Reconstructor, Render
from worldr1_core.scoring import ClipScores
from worldr1_core.video import Video
from worldr1_rewards.probes.footage_corruptions import FOOTAGE_CORRUPTIONS, FOOTAGE_HACKS
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.reconstructors.rigid import pixel_rays

HEIGHT, WIDTH = 24, 32
MATRIX = torch.tensor([[32.0, 0, 16], [0, 32, 12], [0, 0, 1]], dtype=torch.float64)


class Wall(Reconstruction):
    """A wall of colour 0.5 at depth 1, which counts how often it is re-rendered."""

    count = 0

    def render(self, c2w: torch.Tensor, intrinsics: torch.Tensor, size: tuple[int, int]) -> Render:
        return Render(torch.full((len(c2w), 3, *size), 0.5), torch.ones(len(c2w), *size))

    def rerender(self) -> Render:
        type(self).count += 1
        return self.render(self.trajectory.c2w, MATRIX, (HEIGHT, WIDTH))


def sideways(shifts: list[float]) -> CameraTrajectory:
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(shifts), 1, 1)
    c2w[:, 0, 3] = torch.tensor(shifts, dtype=torch.float64)
    return CameraTrajectory(c2w, MATRIX, (HEIGHT, WIDTH), 1.0)


def wall(shifts: list[float], **options: Any) -> Wall:
    return Wall(trajectory=sideways(shifts), depth=torch.ones(len(shifts), HEIGHT, WIDTH), **options)


def test_camera_errors_are_degrees_and_percent_of_the_extent() -> None:
    truth = sideways([0.0, 1.0, 2.0])
    estimate = truth.c2w.clone()
    estimate[:, :3, 3] *= 7  # the unit of length is free
    angle = math.radians(3)
    estimate[2, :3, :3] = torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    )
    found = measures.camera_figures(estimate, truth)
    assert found == pytest.approx({"rotation_mean": 1.0, "rotation_worst": 3.0, "centre_percent": 0.0}, abs=1e-6)
    estimate[1:, 1, 3] += torch.tensor([0.7, -1.4])
    shift = np.array([[0, 0], [7, 0.7], [14, -1.4]])
    scale = (shift[:, 0] * [0, 1, 2]).sum() / (shift**2).sum()
    off = scale * shift - np.array([[0, 0], [1, 0], [2, 0]])
    expected = 100 * np.sqrt((off**2).sum(1).mean()) / 2
    assert measures.camera_figures(estimate, truth)["centre_percent"] == pytest.approx(expected)


def test_a_camera_that_stays_has_no_centre_error() -> None:
    assert measures.camera_figures(sideways([0.0, 0.1]).c2w, sideways([0.0, 0.0]))["centre_percent"] is None


def test_only_what_another_frame_sees_counts_as_visible() -> None:
    # A shift by a quarter of what is in view: the left quarter of the first frame is out of sight of the second.
    seen = measures.seen_by_others(wall([0.0, 0.25]))
    assert seen is not None
    expected = torch.ones(2, HEIGHT, WIDTH)
    expected[0, :, : WIDTH // 4] = 0
    expected[1, :, -WIDTH // 4 :] = 0
    assert torch.equal(seen, expected)


def test_what_lies_behind_the_surface_of_the_other_frame_is_not_seen_there() -> None:
    scene = wall([0.0, 0.0])
    assert scene.depth is not None
    scene.depth[1, :, : WIDTH // 2] = 0.5
    seen = measures.seen_by_others(scene)
    assert seen is not None
    assert float(seen[0, :, : WIDTH // 2 - 1].max()) == 0
    assert float(seen[0, :, WIDTH // 2 + 1 :].min()) == 1


def test_the_worst_frame_of_a_re_render_is_named() -> None:
    frames = torch.full((2, 3, HEIGHT, WIDTH), 0.5)
    frames[0] += 0.1
    frames[1] += 0.01
    found = measures.render_figures(frames, wall([0.0, 0.0]))
    assert found["psnr"] == pytest.approx((20 + 40) / 2, abs=1e-3)
    assert found["psnr_worst_frame"] == pytest.approx(20, abs=1e-3)
    assert found["coverage_of_visible"] == found["coverage"] == 1


def test_the_focal_length_is_compared_with_the_true_one() -> None:
    scene = wall([0.0, 0.0], diagnostics={"focal_deviation": 0.1, "focal_source": "estimated"})
    found = measures.focal_figures(scene, 2 * MATRIX)
    assert found == {"focal_over_true": 0.5, "focal_deviation": 0.1, "focal_source": "estimated"}


class Walls(Reconstructor):
    """Sees a wall in clips of two frames, and nothing in others."""

    def reconstruct(self, clip: Clip) -> Wall:
        if clip.video.num_frames != 2:
            raise ScoreUnavailable("no wall")
        return wall([0.0, 0.5])


def test_a_metered_reconstructor_re_renders_once_and_forgets_the_cost_of_an_earlier_clip() -> None:
    Wall.count = 0
    meter = measures.Metered(Walls())
    found = meter.reconstruct(Clip(Video(torch.zeros(2, 3, HEIGHT, WIDTH))))
    assert found.rerender() is found.rerender()
    assert Wall.count == 1
    assert meter.cost is not None
    with pytest.raises(ScoreUnavailable):
        meter.reconstruct(Clip(Video(torch.zeros(3, 3, HEIGHT, WIDTH))))
    assert meter.cost is None


def test_words_are_judged_without_the_path_and_the_right_one_wins() -> None:
    scene = wall([-0.03 * frame for frame in range(9)], diagnostics={"relief": 1.0})
    clip = Clip(Video(torch.zeros(9, 3, HEIGHT, WIDTH)), target=sideways([0.03 * frame for frame in range(9)]))
    found = measures.judge_words(clip, scene)
    assert found["winner"] == "move left"
    assert len(found["scores"]) == 9
    assert found["margin"] == found["scores"]["move left"] - found["scores"][found["runner_up"]] > 0


def world_clip() -> Clip:
    world = render_world("rich", "push in", seed=0, size=(30, 40), num_frames=4, samples=1)
    target = CameraTrajectory(world.c2w, world.intrinsics, (30, 40))
    return Clip(Video(world.frames), target=target, intrinsics=world.intrinsics)


class Rays(Reconstruction):
    """Draws the ray of every pixel (x, y) and the camera's x, and covers the upper half of a view."""

    def render(self, c2w: torch.Tensor, intrinsics: torch.Tensor, size: tuple[int, int]) -> Render:
        rays = pixel_rays(intrinsics, *size)
        place = c2w[:, 0, 3, None, None].expand(-1, *size)
        frames = torch.stack(
            [0.5 + rays[..., 0].expand_as(place) / 4, 0.5 + rays[..., 1].expand_as(place) / 4, place], 1
        )
        coverage = torch.zeros(len(c2w), *size)
        coverage[:, : size[0] // 2] = 1
        return Render(frames.float(), coverage)

    def rerender(self) -> Render:
        raise NotImplementedError


def test_a_long_version_sees_the_same_rays_along_the_same_path() -> None:
    clip = world_clip()
    assert clip.target is not None
    assert clip.intrinsics is not None
    path = replace(sideways([0.0, 0.3, 0.6, 0.9]), intrinsics=clip.intrinsics, image_size=(30, 40))
    long = measures.lengthened(clip, Rays(trajectory=path), 7, (90, 110))
    assert long.video.frames.shape == (7, 3, 90, 110)
    assert long.target is not None
    assert long.intrinsics is not None
    assert torch.allclose(long.target.c2w[::2], clip.target.c2w)
    assert torch.allclose(long.video.frames[:, 2, 0, 0], torch.linspace(0, 0.9, 7))
    # Enlarged three times to 90x120, with five columns cut off on either side.
    x, y = (10 + 0.5 + 5) / 3, (20 + 0.5) / 3
    ray = torch.linalg.inv(clip.intrinsics) @ torch.tensor([x, y, 1.0], dtype=clip.intrinsics.dtype)
    assert torch.allclose(long.video.frames[0, :2, 20, 10], 0.5 + ray[:2].float() / 4)
    moved = torch.tensor([10.5, 20.5, 1.0], dtype=clip.intrinsics.dtype)
    assert torch.allclose(torch.linalg.inv(long.intrinsics) @ moved, ray)


def test_what_the_scene_does_not_cover_is_taken_from_the_nearest_filmed_frame() -> None:
    clip = world_clip()
    path = replace(sideways([0.0, 0.3, 0.6, 0.9]), intrinsics=clip.intrinsics, image_size=(30, 40))
    long = measures.lengthened(clip, Rays(trajectory=path), 10, (30, 40))
    assert torch.equal(long.video.frames[4, :, 15:], clip.video.frames[1, :, 15:])


def test_a_shrunk_clip_keeps_its_field_of_view() -> None:
    clip = world_clip()
    small = measures.shrunk(clip, 20)
    assert small.video.size == (15, 20)
    assert clip.intrinsics is not None
    assert small.intrinsics is not None
    assert torch.allclose(2 * small.intrinsics[:2], clip.intrinsics[:2])
    assert measures.shrunk(replace(clip, intrinsics=None), 20).intrinsics is None


ROWS = [
    {"clip": "a", "kind": "clean", "total": 1.0},
    {"clip": "b", "kind": "clean", "total": 0.6},
    {"clip": "a", "kind": "morph", "total": 0.8},
    {"clip": "b", "kind": "morph", "total": 0.5},
    {"clip": "a", "kind": "jitter", "total": math.nan},
    {"clip": "b", "kind": "jitter", "total": 0.7},
    {"clip": "a", "kind": "frozen", "total": 0.1},
    {"clip": "b", "kind": "frozen", "total": 0.65},
]


def test_pairs_auc_and_hacks_count_only_what_has_a_score() -> None:
    found = summary.separate(ROWS, "total")
    assert found["pairs"] == pytest.approx(2 / 3)
    assert found["pairs_counted"] == 3
    assert found["pairs_lost"] == ["b: jitter"]
    assert found["auc"] == pytest.approx({"morph": 0.75, "jitter": 0.5, "frozen": 0.75})
    assert found["auc_pooled"] == pytest.approx(4 / 6)  # 1.0 exceeds all three, 0.6 only 0.5
    assert (found["hacks_highest"], found["clean_lowest"], found["hacks_below_clean"]) == (0.65, 0.6, False)
    assert found["without_score"] == {"jitter": 1}


def row(**known: Any) -> dict[str, Any]:
    return {"known": {"reasons": {}, **known}, "unknown": {"reasons": {}, "focal_over_true": known.get("focal")}}


def test_the_summary_takes_means_and_the_worst_clip() -> None:
    clips = {
        "a": row(rotation_mean=0.1, rotation_worst=0.3, psnr=30.0, focal=0.8, cpu_seconds=8.0, volume=16 * 256 * 456),
        "b": row(rotation_mean=0.3, rotation_worst=1.0, psnr=24.0, focal=1.1, cpu_seconds=30.0, volume=64 * 256 * 456),
    }
    found = summary.summarise(clips, {"pairs": 0.9, "auc_pooled": 0.97})
    bars = summary.check_bars(found)
    assert found["rotation_mean"] == pytest.approx(0.2)
    assert (found["rotation_worst"], found["psnr_mean"], found["psnr_lowest"]) == (1.0, 27.0, 24.0)
    assert found["focal_error_percent"] == pytest.approx(20)
    assert found["seconds"] == 8.0  # the other has four times the pixels
    passed = {name: bar["passed"] for name, bar in bars.items()}
    assert all(passed[name] for name in ("rotation_mean", "psnr_mean", "seconds", "auc_pooled"))
    assert passed["focal_error_percent"] is False
    assert passed["pairs"] is False
    assert passed["coverage"] is None


def test_a_clip_without_a_score_fails_its_bar() -> None:
    clips = {"a": row(psnr=30.0), "b": {"known": {"reasons": {"reconstruction": "no"}}, "unknown": {"reasons": {}}}}
    bar = summary.check_bars(summary.summarise(clips, None))["clean_without_score"]
    assert bar == {"value": 1, "bar": "<= 0", "passed": False}


def test_generated_clips_are_compared_with_real_ones() -> None:
    found = summary.compare_generated({"a": 0.6, "b": math.nan}, {"g": 0.7, "h": 0.1})
    assert (found["auc"], found["real_lowest"], found["generated_highest"]) == (0.5, 0.6, 0.7)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.mark.parametrize("arguments", [[], ["--clips", "absent"], ["--clips", "."]])
def test_without_clips_the_reason_is_all_that_is_printed(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    real_footage.main([*arguments, "--quick"])
    found = last_line(capsys)
    assert list(found) == ["skipped"]
    assert found["skipped"]


def test_clips_without_a_path_alone_are_nothing_to_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(tmp_path, "generated-1", with_path=False)
    real_footage.main(["--clips", str(tmp_path)])
    assert "camera path" in last_line(capsys)["skipped"]


def test_quick_and_the_long_measurements_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        real_footage.main(["--clips", ".", "--quick", "--corruptions"])
    assert "--quick leaves out" in capsys.readouterr().err


def test_a_folder_is_measured_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "WARM_UP", ((32, 32), 3))
    write_clip(tmp_path, "real", "move right")
    write_clip(tmp_path, "generated-1", "push in", with_path=False)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    figure = tmp_path / "figure.png"
    real_footage.main(["--clips", str(tmp_path), "--reconstructors", "direct", "--figure", str(figure)])
    found = last_line(capsys)
    report = found["reconstructors"]["direct"]
    clip = report["clips"]["real.mp4"]
    assert list(found["left_out"]) == ["broken.mp4"]
    assert clip["known"]["rotation_mean"] < 1
    assert 0 < clip["known"]["reconstruction"] <= 1
    assert clip["unknown"]["focal_over_true"] > 0
    assert clip["words"]["winner"] == "move right"
    assert set(report["real_and_generated"]["generated"]) == {"generated-1.mp4"}
    assert found["bars"] == report["bars"]
    assert min(Image.open(figure).size) > min(SIZE)


def test_a_reconstructor_that_is_not_there_is_listed_with_the_reason(tmp_path: Path) -> None:
    report = run.measure(run.Job("absent", tmp_path, (), ()))
    assert "absent" in report["cannot_run"]
    assert real_footage.report_lines("absent", report)[0].startswith("absent: cannot run: ")


@pytest.mark.slow  # imports torchvision
def test_lpips_weights_are_looked_for_under_torchvisions_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worldr1_rewards.rewards.lpips_net import _cache_file

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not run.has_lpips_weights()
    _cache_file().parent.mkdir(parents=True)
    _cache_file().touch()
    assert run.has_lpips_weights()


class NearestBench:
    """Scores clips by their likeness to the clean ones."""

    name = "nearest"

    def __init__(self, clean: list[torch.Tensor]) -> None:
        self.scorer = scorer_of(("reconstruction", NearestClean(clean)), ("trajectory", NearestClean(clean)))

    def score(self, clip: Clip) -> ClipScores:
        (result,) = self.scorer.score([clip])
        return result

    def report(self, what: str, result: ClipScores) -> None:
        pass


def test_every_kind_of_break_is_ranked_against_the_clips_it_was_made_from(tmp_path: Path) -> None:
    clean = [write_clip(tmp_path, "a", "move right", seed=0), write_clip(tmp_path, "b", "push in", seed=1)]
    write_clip(tmp_path, "generated", "pan left", with_path=False)
    real, generated, _ = real_footage.find_clips(tmp_path)
    job = run.Job("nearest", tmp_path, tuple(real), tuple(generated), corruptions=True)
    found = run.measure_corruptions(NearestBench(clean), job)  # type: ignore[arg-type]
    kinds = {entry["kind"] for entry in found["rows"]}
    assert kinds == {"clean", *FOOTAGE_CORRUPTIONS, *FOOTAGE_HACKS}
    assert {entry["clip"] for entry in found["rows"]} == {"a.mp4", "b.mp4"}
    assert found["total"]["pairs"] == 1
    assert found["total"]["auc_pooled"] > 0.9
    assert all(entry["total"] < 0 for entry in found["rows"])  # H.264 changes the clean clips, too
    assert found["total"]["hacks_below_clean"] is True
    assert real_footage.separation_lines(found)


def test_one_clip_is_too_few_for_breaks_that_show_another(tmp_path: Path) -> None:
    frames = write_clip(tmp_path, "a")
    write_clip(tmp_path, "generated", with_path=False)
    real, _, _ = real_footage.find_clips(tmp_path)
    found = run.measure_corruptions(NearestBench([frames]), run.Job("nearest", tmp_path, tuple(real), ()))  # type: ignore[arg-type]
    assert "two clips" in found["skipped"]
