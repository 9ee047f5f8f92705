"""Real clips as the source of a probe: which files belong to a clip, what is broken, and what is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from probes.footage_clips import NUM_FRAMES, NearestClean, scorer_of, write_clip
from worldr1_core.errors import UserError, VideoError
from worldr1_rewards.probes.footage import Footage, applies, read_footage, score_clean
from worldr1_rewards.probes.footage_corruptions import FOOTAGE_CORRUPTIONS, FOOTAGE_HACKS, PATH_BREAKS, corrupt
from worldr1_rewards.probes.footage_files import find_footage
from worldr1_rewards.probes.run import run_probe
from worldr1_rewards.probes.source import CLEAN
from worldr1_rewards.probes.summary import summarise
from worldr1_rewards.probes.world import STILL_HACKS


def two_clips(folder: Path) -> list[torch.Tensor]:
    return [write_clip(folder, "one"), write_clip(folder, "two", "push in", 5)]


def labels(footage: Footage) -> list[str]:
    return [case.label for case in footage.cases]


def test_a_fair_reward_gets_perfect_figures_and_the_clips_as_filmed(tmp_path: Path) -> None:
    reward = NearestClean(two_clips(tmp_path))
    footage = read_footage(tmp_path)
    outcomes = list(run_probe(scorer_of(("nearest", reward)), footage))
    report = summarise(outcomes, footage)
    assert report["auc"] == dict.fromkeys(FOOTAGE_CORRUPTIONS, 1.0)
    assert report["paired"] == dict.fromkeys(FOOTAGE_CORRUPTIONS, 1.0)
    assert report["hacks_below_clean"] is True
    assert set(report["hacks"]) == set(FOOTAGE_HACKS)
    assert report["spearman"]["bend"] == pytest.approx(-1.0)
    assert report["clips"] == 2 * (1 + 3 * len(FOOTAGE_CORRUPTIONS) + len(FOOTAGE_HACKS))
    assert [o.value for o in outcomes if o.sample.kind == CLEAN] == [0.0, 0.0]


def test_a_reward_is_given_the_camera_s_own_path_and_no_file_name(tmp_path: Path) -> None:
    reward = NearestClean(two_clips(tmp_path))
    list(run_probe(scorer_of(("nearest", reward)), replace(read_footage(tmp_path, quick=True), hacks=("frozen",))))
    stored = json.loads((tmp_path / "one.json").read_text())
    frozen = reward.asked[2 + 6]
    assert frozen.target is not None
    torch.testing.assert_close(frozen.target.c2w, torch.tensor(stored["c2w"], dtype=torch.float64))
    torch.testing.assert_close(frozen.intrinsics, torch.tensor(stored["intrinsics"], dtype=torch.float64))
    assert torch.equal(frozen.video.frames, reward.clips[0][:1].expand(NUM_FRAMES, -1, -1, -1))
    assert all(clip.name.startswith("clip ") and clip.video.source is None for clip in reward.asked)


def test_a_cut_and_unrelated_frames_come_from_the_other_clips(tmp_path: Path) -> None:
    first, second = two_clips(tmp_path)
    footage = replace(read_footage(tmp_path), corruptions=(), hacks=("scene_cut", "unrelated"))
    cut, unrelated = list(footage.broken_samples())[:2]
    assert torch.equal(cut.clip("c").video.frames, corrupt(first, "scene_cut", 1.0, 0, second))
    shown = unrelated.clip("c").video.frames
    mirrored = [second, second.flip(-1), second.flip(-2), second.flip((-1, -2))]
    assert all(
        min(float((frame - other).abs().amax()) for clip in mirrored for other in clip) == 0 for frame in shown[1:]
    )


def test_a_reward_that_needs_a_path_leaves_clips_without_one_out(tmp_path: Path) -> None:
    clips = [*two_clips(tmp_path), write_clip(tmp_path, "generated-three", "pan right", 9, with_path=False)]
    (tmp_path / "generated-three.txt").write_text("Camera pan right. A room.")  # words tell no distance: still no path
    footage = read_footage(tmp_path)
    scorer = scorer_of(("nearest", NearestClean(clips)), ("path", NearestClean(clips, needs_path=True)))
    outcomes, kept = score_clean(scorer, footage)
    assert labels(kept) == ["one.mp4", "two.mp4"]
    assert len(outcomes) == 2
    reason = kept.left_out["generated-three.mp4"]
    assert reason == "has no camera path file beside it; path does not apply: no path is commanded"


def test_a_reward_that_needs_none_keeps_them_but_for_breaks_of_the_path(tmp_path: Path) -> None:
    clips = [*two_clips(tmp_path), write_clip(tmp_path, "three", "pan right", 9, with_path=False)]
    outcomes, kept = score_clean(scorer_of(("nearest", NearestClean(clips))), read_footage(tmp_path))
    assert len(outcomes) == 3
    shown = {sample.kind for sample in kept.broken_samples() if sample.case.label == "three.mp4"}
    assert shown == {*FOOTAGE_CORRUPTIONS, *FOOTAGE_HACKS} - set(PATH_BREAKS)


def test_a_resting_camera_may_be_frozen(tmp_path: Path) -> None:
    write_clip(tmp_path, "rests", "fixed")
    write_clip(tmp_path, "two")
    rests, moves = read_footage(tmp_path).cases
    assert (rests.rests, moves.rests) == (True, False)
    refused = {kind for kind in (*FOOTAGE_CORRUPTIONS, *FOOTAGE_HACKS) if not applies(rests, kind)}
    assert refused == {*PATH_BREAKS, *STILL_HACKS}


@pytest.mark.parametrize("ending", [".tum", ".txt", ".npy"])
def test_a_path_may_have_another_form(tmp_path: Path, ending: str) -> None:
    two_clips(tmp_path)
    poses = np.array(json.loads((tmp_path / "one.json").read_text())["c2w"])
    (tmp_path / "one.json").unlink()
    if ending == ".npy":
        np.save(tmp_path / "one.npy", poses)
    else:
        rows = [f"{t} {x} {y} {z} 0 0 0 1" for t, (x, y, z) in enumerate(poses[:, :3, 3])]
        (tmp_path / f"one{ending}").write_text("# poses\n" + "\n".join(rows))
    (tmp_path / "one-intrinsics.json").write_text("[[60, 0, 32], [0, 60, 24], [0, 0, 1]]")
    entry = find_footage(tmp_path)[0][0]
    clip = entry.load()
    assert clip.target is not None
    np.testing.assert_allclose(clip.target.positions, poses[:, :3, 3])
    assert clip.intrinsics is not None
    assert float(clip.intrinsics[0, 0]) == 60
    assert clip.prompt == ""


def test_the_record_of_a_generated_video_is_a_prompt_and_no_path(tmp_path: Path) -> None:
    write_clip(tmp_path, "made", with_path=False)
    (tmp_path / "made.json").write_text(json.dumps({"video": "made.mp4", "prompt": "Camera pan left. A room."}))
    clip = find_footage(tmp_path)[0][0].load()
    assert (clip.prompt, clip.target) == ("Camera pan left. A room.", None)


def test_bad_clips_are_left_out_with_their_reason_and_the_others_go_on(tmp_path: Path) -> None:
    two_clips(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    write_clip(tmp_path, "short")
    path = json.loads((tmp_path / "short.json").read_text())
    (tmp_path / "short.json").write_text(json.dumps(path | {"c2w": path["c2w"][:-2]}))
    write_clip(tmp_path, "double")
    np.save(tmp_path / "double.npy", np.array(path["c2w"]))
    footage = read_footage(tmp_path)
    assert labels(footage) == ["one.mp4", "two.mp4"]
    assert set(footage.left_out) == {"broken.mp4", "double.mp4", "short.mp4"}
    assert f"holds {NUM_FRAMES - 2} poses, the clip has {NUM_FRAMES} frames" in footage.left_out["short.mp4"]
    assert "['double.json', 'double.npy']" in footage.left_out["double.mp4"]


def test_an_empty_folder_holds_no_clips(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="holds no clips"):
        read_footage(tmp_path)


def test_a_file_is_no_folder_of_clips(tmp_path: Path) -> None:
    write_clip(tmp_path, "one")
    with pytest.raises(VideoError, match="is a file"):
        read_footage(tmp_path / "one.mp4")


def test_one_clip_alone_is_refused_with_the_reasons_of_the_others(tmp_path: Path) -> None:
    write_clip(tmp_path, "one")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"(?s)Usable clips: \['one.mp4'\].*at least 2.*broken.mp4: "):
        read_footage(tmp_path)
