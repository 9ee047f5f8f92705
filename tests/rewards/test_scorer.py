"""`Scorer` in Python: the same numbers as the command line, from videos and rewards in any form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from worldr1_core.camera.formats import save_trajectory
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import trajectory_from_prompt
from worldr1_core.cli import cli
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, TrajectoryError, UnknownNameError, UserError, VideoError
from worldr1_core.reward import Reward, Score
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards import Scorer
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards.path_agreement import require_target
from worldr1_rewards.rewards.trajectory import TrajectoryReward

SAMPLE = Path(__file__).parents[2] / "examples" / "clips" / "push_in.mp4"
PROMPT = "Camera push in. A room with boxes."


class Bright(Reward):
    """Mean of the frames, with what the clip commands in the details."""

    def score(self, clip, inputs):
        return Score(
            float(clip.video.frames.mean()),
            details={
                "prompt": clip.prompt,
                "moves": [str(move) for move in clip.moves],
                "path": None if clip.target is None else float(clip.target.extent),
                "focal": None if clip.intrinsics is None else float(clip.intrinsics[0, 0]),
            },
        )


def comparable(record):
    """A record without what differs from run to run."""
    return {key: value for key, value in record.items() if key != "timings"}


def print_scores(*arguments):
    """What `worldr1 score` prints."""
    done = CliRunner().invoke(cli, ["score", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_sample_clip_gives_what_the_command_line_prints():
    (printed,) = print_scores(SAMPLE, "--prompt", PROMPT)
    assert comparable(Scorer()(SAMPLE, prompt=PROMPT)) == comparable(printed)
    assert printed["total"] > 1.5


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A small clip as a file, and the manifest that scores it quickly."""
    folder = tmp_path_factory.mktemp("room")
    world = render_world("rich", "push in", seed=1, num_frames=5, size=(48, 48))
    write_video(Video(world.frames), folder / "room.npy")
    (folder / "manifest.yaml").write_text(
        "version: 1\nreconstructor: {name: direct}\nrewards: [{name: reconstruction}, {name: trajectory}]\n"
    )
    return folder / "room.npy", folder / "manifest.yaml"


@pytest.fixture(scope="module")
def printed(room):
    video, manifest = room
    (record,) = print_scores(video, "--prompt", PROMPT, "--manifest", manifest)
    return comparable(record)


def test_every_form_of_a_video_gives_what_the_command_line_prints(room, printed):
    path, manifest = room
    video = read_video(path)
    records = Scorer(manifest)([str(path), video, Clip(video, PROMPT, name=str(path)), video.frames], prompt=PROMPT)
    assert printed["scores"].keys() == {"reconstruction", "trajectory"}
    assert None not in printed["scores"].values()
    assert [comparable(record) for record in records[:3]] == [printed] * 3
    assert comparable(records[3]) == {**printed, "video": "clip 3"}


def test_results_stream_with_their_reconstruction(room, printed):
    path, manifest = room
    (result,) = Scorer(manifest=manifest).score(path, PROMPT)
    assert result.total == printed["total"]
    assert result.reconstruction is not None


@pytest.fixture
def bright():
    return Scorer([Bright()])


@pytest.fixture
def frames():
    return torch.rand(2, 4, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def test_one_video_gives_one_record(bright, frames):
    assert bright(frames[0])["total"] == float(frames[0].mean())
    assert bright(Video(frames[0]))["video"] == "clip"


@pytest.mark.parametrize("form", [lambda batch: batch, list, tuple, iter, lambda b: b.numpy(), lambda b: b.double()])
def test_batch_and_lists_give_a_list(bright, frames, form):
    records = bright(form(frames), prompt=["a", "b"])
    assert [record["total"] for record in records] == pytest.approx([float(video.mean()) for video in frames])
    assert [record["prompt"] for record in records] == ["a", "b"]
    assert [record["video"] for record in records] == ["clip 0", "clip 1"]


def test_list_of_one_gives_a_list(bright, frames):
    assert len(bright([frames[0]])) == len(bright(frames[:1])) == 1
    assert bright([]) == []


def test_folder_of_videos_and_list_files_give_what_the_command_line_prints(tmp_path, frames):
    for index in range(2):
        write_video(Video(frames[index]), tmp_path / f"{index}.npy")
    listing = tmp_path / "list.csv"
    listing.write_text("video,prompt\n1.npy,Camera pan left.\n0.npy,\n")
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text("version: 1\nrewards: [{name: contrast}]\n")
    scorer = Scorer(manifest)
    for path in (tmp_path, listing):
        printed = print_scores(path, "--manifest", manifest, "--prompt", "Camera push in.")
        records = scorer(path, prompt="Camera push in.")
        assert [comparable(record) for record in records] == [comparable(record) for record in printed]


def test_image_folder_is_one_video(bright, frames, tmp_path):
    write_video(Video(frames[0]), tmp_path / "images")
    assert bright(tmp_path / "images")["video"] == str(tmp_path / "images")


def test_record_beside_a_generated_video_gives_its_prompt(bright, frames, tmp_path):
    write_video(Video(frames[0]), tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(json.dumps({"prompt": "Camera pan left. A room."}))
    details = bright(str(tmp_path / "a.npy"))["details"]["bright"]
    assert (details["prompt"], details["moves"]) == ("Camera pan left. A room.", ["pan_left"])


def test_trajectory_and_intrinsics_may_be_objects_or_files(bright, frames, tmp_path):
    path = CameraTrajectory(trajectory_from_prompt("move left", 4).c2w, scene_depth=1000.0)
    matrix = torch.tensor([[10.0, 0, 6], [0, 10, 4], [0, 0, 1]])
    save_trajectory(path, tmp_path / "path.json")
    np.save(tmp_path / "k.npy", matrix.numpy())
    forms = [
        (path, matrix),
        (tmp_path / "path.json", tmp_path / "k.npy"),
        (str(tmp_path / "path.json"), matrix.numpy()),
    ]
    records = [bright(frames[0], prompt="push in", trajectory=t, intrinsics=k) for t, k in forms]
    for record in records:
        details = record["details"]["bright"]
        assert details["moves"] == []
        assert details["path"] == pytest.approx(220)
        assert details["focal"] == 10.0


def test_intrinsics_of_a_path_are_brought_to_the_size_of_the_video(bright, frames):
    path = trajectory_from_prompt("move left", 4, (16, 24))
    assert bright(frames[0], trajectory=path)["details"]["bright"]["focal"] == pytest.approx(1.2 * 12)


def test_each_video_may_have_its_own_path(bright, frames):
    path = trajectory_from_prompt("move left", 4)
    records = bright(frames, prompt="push in", trajectory=[None, path])
    assert [record["details"]["bright"]["moves"] for record in records] == [["push_in"], []]


def test_path_of_another_length_is_refused(bright, frames):
    with pytest.raises(TrajectoryError, match="5 poses"):
        bright(frames[0], trajectory=trajectory_from_prompt("move left", 5))


@pytest.mark.parametrize(
    ("video", "error"),
    [
        (torch.rand(4, 8, 8, 3), r"must be a tensor \(T, 3, H, W\), received \(4, 8, 8, 3\)"),
        (torch.full((4, 3, 8, 8), 128, dtype=torch.uint8), "Divide uint8 by 255"),
        (torch.full((4, 3, 8, 8), 128.0), r"must lie in \[0, 1\]"),
        (torch.full((4, 3, 8, 8), float("nan")), "NaN or infinite"),
        (torch.rand(1, 3, 8, 8), "at least 2"),
        (torch.rand(3, 8, 8), "must be a tensor"),
        (np.array(["a"]), "must be an array"),
        ("no-such.mp4", "no such file"),
        ("", "must not be empty"),
        (None, "A video is a path"),
        (3, "A video is a path"),
        ([[torch.rand(4, 3, 8, 8)]], "in a list"),
    ],
)
def test_what_is_no_video_is_refused(bright, video, error):
    with pytest.raises(VideoError, match=error):
        bright(video)


def test_missing_file_stops_before_any_video_is_scored(frames):
    class Never(Reward):
        def score(self, clip, inputs):
            raise UserError("scored")

    with pytest.raises(VideoError, match="no such file"):
        Scorer([Never()])([frames[0], "no-such.mp4"])


@pytest.mark.parametrize("options", [{"prompt": ["a"]}, {"trajectory": [None]}, {"intrinsics": [None] * 3}])
def test_options_are_one_for_all_or_one_per_video(bright, frames, options):
    with pytest.raises(UserError, match=r"for 2 videos\. Give one per video, or one for all"):
        bright(frames, **options)


@pytest.mark.parametrize(
    "options", [{"prompt": 3}, {"prompt": [3, "a"]}, {"intrinsics": 3}, {"trajectory": [[0], [1]]}]
)
def test_options_of_another_type_are_refused(bright, frames, options):
    with pytest.raises(UserError, match=r"received 3|holds"):
        bright(frames, **options)


def test_clip_with_a_prompt_of_its_own_takes_no_other(bright, frames):
    clip = Clip(Video(frames[0]), "push in")
    with pytest.raises(UserError, match="the Clip has its own prompt"):
        bright(clip, prompt="pan left")
    assert bright(clip, prompt="push in")["details"]["bright"]["moves"] == ["push_in"]


def test_clip_without_a_prompt_takes_the_argument(bright, frames):
    assert bright(Clip(Video(frames[0])), prompt="pan left")["details"]["bright"]["moves"] == ["pan_left"]


def test_clip_that_commands_nothing_stays_so(bright, frames):
    clip = Clip(Video(frames[0]), "push in", target=None)
    assert bright(clip)["details"]["bright"]["path"] is None


def test_reason_of_a_reward_that_does_not_apply_is_true(frames):
    video = Video(frames[0])
    with pytest.raises(ScoreNotApplicable, match="the prompt has no camera word and no path is given"):
        require_target(Clip(video, "A room."))
    with pytest.raises(ScoreNotApplicable, match=r"target=None.*\['push_in'\]"):
        require_target(Clip(video, "push in", target=None))


def contrast_by_hand(completions, **kwargs):
    return [float(video.std()) for video in completions]


def test_rewards_may_be_names_pairs_mappings_objects_classes_and_functions():
    rewards = [
        "reconstruction",
        ("motion", 0.5),
        {"name": "statistics-threshold", "weight": 2},
        TrajectoryReward(amount="exact"),
        (Bright, 3),
        contrast_by_hand,
    ]
    named = [(w.name, w.weight) for w in Scorer(rewards).components.rewards]
    assert named == [
        ("reconstruction", 1.0),
        ("motion", 0.5),
        ("statistics-threshold", 2.0),
        ("trajectory", 1.0),
        ("bright", 3.0),
        ("contrast_by_hand", 1.0),
    ]


def test_options_of_a_mapping_reach_the_reward():
    scorer = Scorer({"name": "trajectory", "amount": "exact"})
    assert scorer.components.rewards[0].reward.config.amount == "exact"
    with pytest.raises(UserError, match="amuont"):
        Scorer({"name": "trajectory", "amuont": "exact"})


def test_total_is_the_weighted_sum(frames):
    record = Scorer([(Bright(), 2), (contrast_by_hand, 0.5)])(frames[0])
    scores = record["scores"]
    assert record["total"] == 2 * scores["bright"] + 0.5 * scores["contrast_by_hand"]


def test_manifest_may_be_a_file_or_a_mapping(tmp_path, frames):
    document = {"rewards": [{"name": "contrast", "weight": 2}]}
    (tmp_path / "m.yaml").write_text("version: 1\nrewards: [{name: contrast, weight: 2}]\n")
    totals = {Scorer(form)(frames[0])["total"] for form in (tmp_path / "m.yaml", str(tmp_path / "m.yaml"), document)}
    assert len(totals) == 1
    assert Scorer(["contrast"], manifest=document).components.rewards[0].weight == 2


def test_mistake_in_a_mapping_names_its_key():
    with pytest.raises(UserError, match=r"rewards.0: unknown key 'wieght'"):
        Scorer({"rewards": [{"name": "contrast", "wieght": 2}]})


def test_reconstructor_may_be_a_name_or_an_object():
    from worldr1_rewards.reconstructors.direct import DirectReconstructor

    own = DirectReconstructor()
    assert Scorer("trajectory", reconstructor=own).components.reconstructor is own
    named = Scorer("trajectory", reconstructor="direct").components.reconstructor
    assert type(named) is DirectReconstructor


@pytest.mark.parametrize(
    ("rewards", "error"),
    [
        ("trajectry", "Did you mean 'trajectory'"),
        ([("trajectory", -1)], "weight of 'trajectory' must be a finite number of at least 0"),
        ([("trajectory", "1")], "weight of 'trajectory'"),
        ([("trajectory", 1, 2)], r"A pair is \(reward, weight\)"),
        ([Reward], "no reward class that can be set up"),
        ([dict], "no reward class that can be set up"),
        ([torch.nn.Linear(1, 1)], "A reward cannot be made from"),
        ([3], "A reward cannot be made from 3"),
        (3, "rewards must be a list"),
        ([], "No reward to score with"),
        ([Bright(), Bright()], "Two rewards are called 'bright'"),
        ([lambda prompts: []], "must take the keyword argument 'completions'"),
        ({"weight": 2, "options": 1}, "needs a name"),
    ],
)
def test_what_is_no_reward_is_refused(rewards, error):
    with pytest.raises(UserError, match=error):
        Scorer(rewards)


def test_unknown_name_is_told_from_a_manifest():
    with pytest.raises(UnknownNameError):
        Scorer("no-such-reward")
    with pytest.raises(UserError, match="cannot be read"):
        Scorer("no-such.yaml")
