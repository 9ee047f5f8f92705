"""Flaws of structure: invisible to the camera of the frame, plain from the view that the meta-view reward chooses.

No vision-language model is asked here. What is shown is the evidence that one would be handed.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from pytest_httpserver import HTTPServer
from torch import Tensor
from werkzeug import Request, Response

from rewards.meta_view_scene import RecordingJudge
from worldr1_core.cli import cli
from worldr1_core.compose import WeightedReward
from worldr1_core.errors import UserError
from worldr1_core.judge import JudgeResult
from worldr1_core.reward import RewardInputs
from worldr1_rewards.probes import plan as plans
from worldr1_rewards.probes.plan import Case, ProbePlan, to_clip
from worldr1_rewards.probes.structure import FLAWS, DepthScene, depth_scene, flawed_scene, probe_structure
from worldr1_rewards.probes.world import WorldClip, build_scene, render_frame, render_world
from worldr1_rewards.rewards.meta_view import MetaViewReward
from worldr1_rewards.rewards.trajectory import TrajectoryReward
from worldr1_rewards.rewards.viewpoints import square_intrinsics

CASES = (("soft", "orbit left", 1), ("tiles", "move right", 2), ("rich", "push in", 3))
SIDE = 96


@lru_cache(maxsize=4)
def world(family: str, moves: str, seed: int) -> WorldClip:
    return render_world(family, moves, seed=seed, size=(SIDE, SIDE), num_frames=5)


@lru_cache(maxsize=4)
def chosen_view(family: str, moves: str, seed: int) -> Tensor:
    """The camera `(4, 4)` that the reward chooses for the flawless scene."""
    clip = world(family, moves, seed)
    score = MetaViewReward().score(to_clip(clip, "c"), RewardInputs(depth_scene(clip), RecordingJudge()))
    return torch.tensor(score.details["c2w"], dtype=torch.float64)


def error_against_truth(clip: WorldClip, scene: DepthScene, c2w: Tensor) -> float:
    """Mean colour error of what the scene covers in a view, against the ray-caster."""
    intrinsics = square_intrinsics(scene, (SIDE, SIDE), SIDE)
    shown = scene.render(c2w[None], intrinsics, (SIDE, SIDE))
    truth = render_frame(build_scene(clip.family, clip.seed), c2w, intrinsics, (SIDE, SIDE))
    covered = shown.coverage[0] > 0
    return float((shown.frames[0] - truth).abs().mean(0)[covered].mean())


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("case", CASES)
def test_the_frame_s_own_camera_sees_no_flaw(case: tuple[str, str, int], flaw: str) -> None:
    clip = world(*case)
    own = clip.c2w[2:3]
    shown = flawed_scene(clip, flaw, 1.0).render(own, clip.intrinsics, (SIDE, SIDE))
    assert float(shown.coverage.min()) == 1.0
    torch.testing.assert_close(shown.frames[0], clip.frames[2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("case", CASES)
def test_the_chosen_view_shows_the_flaw_and_more_of_it_as_it_grows(case: tuple[str, str, int], flaw: str) -> None:
    clip, view = world(*case), chosen_view(*case)
    errors = [error_against_truth(clip, depth_scene(clip), view)]
    errors += [error_against_truth(clip, flawed_scene(clip, flaw, severity), view) for severity in (0.5, 1.0)]
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] > 1.2 * errors[0]


@pytest.mark.parametrize("flaw", FLAWS)
def test_the_judge_is_handed_that_picture(flaw: str) -> None:
    clip, judge = world(*CASES[0]), RecordingJudge()
    scene = flawed_scene(clip, flaw, 1.0)
    score = MetaViewReward().score(to_clip(clip, "c"), RewardInputs(scene, judge))
    ((request,),) = judge.calls
    c2w = torch.tensor(score.details["c2w"], dtype=torch.float64)
    shown = scene.render(c2w[None], square_intrinsics(scene, (SIDE, SIDE), SIDE), (SIDE, SIDE))
    covered = shown.coverage[0] > 0
    torch.testing.assert_close(request.images[1][:, covered], shown.frames[0][:, covered])
    assert 0.6 <= float(covered.float().mean()) < 1
    assert "A room with simple objects." in request.text


def test_a_judge_that_sees_the_flaws_is_told_apart_from_one_that_does_not() -> None:
    class Seeing(RecordingJudge):
        """Grades by what is left uncovered or torn: any scene it has seen unflawed earns more."""

        def grade(self, requests):
            return [JudgeResult(1 / (1 + float(q.images[1].diff(dim=-1).abs().mean())), 1.0) for q in requests]

    cases = [Case("soft", ("orbit left",), 1), Case("soft", ("pan left",), 1)]
    rewards = [WeightedReward("meta-view", 1.0, MetaViewReward()), WeightedReward("t", 1.0, TrajectoryReward())]
    report = probe_structure(rewards, Seeing(), cases, (0.5, 1.0), (SIDE, SIDE), 5)
    assert set(report) == {"meta-view"}
    assert report["meta-view"]["floaters"]["auc"] == 1.0
    assert report["meta-view"]["floaters"]["spearman"] == pytest.approx(-1.0)
    blind = probe_structure(rewards[:1], RecordingJudge([JudgeResult(0.5, 1.0)]), cases, (1.0,), (SIDE, SIDE), 5)
    assert blind["meta-view"]["holes"]["auc"] == 0.5
    assert probe_structure(rewards[1:], None, cases, (1.0,), (SIDE, SIDE), 5) == {}


def test_unknown_flaws_are_refused() -> None:
    with pytest.raises(UserError, match="Unknown flaw 'dust'"):
        flawed_scene(world(*CASES[0]), "dust", 1.0)


@pytest.mark.slow
def test_a_probe_of_meta_view_is_recorded_from_an_endpoint_and_replayed_without_it(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(request: Request) -> Response:
        digit = len(request.data) % 10
        return Response(json.dumps({"choices": [{"message": {"content": str(digit)}}]}), mimetype="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(respond)
    plan = ProbePlan((Case("soft", ("push in",), 0),), (1.0,), (48, 48), 5, hacks=("frozen",))
    monkeypatch.setattr(plans, "quick_plan", lambda *_, **__: plan)
    reports = []
    for replay, url in ((False, httpserver.url_for("/v1")), (True, "http://localhost:9/v1")):
        manifest = tmp_path / "judge.yaml"
        judge = (
            f"{{name: openai, base_url: '{url}', recording: '{tmp_path / 'a.jsonl'}', replay: {str(replay).lower()}}}"
        )
        manifest.write_text(
            f"version: 1\nreconstructor: {{name: direct}}\njudge: {judge}\nrewards: [{{name: meta-view}}]\n"
        )
        done = CliRunner().invoke(cli, ["probe", str(manifest), "--quick", "--json"])
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout.splitlines()[-1])
        assert set(report["structure"]["meta-view"]) == set(FLAWS)
        reports.append({key: report[key] for key in ("auc", "hacks", "structure", "unscored")})
    assert reports[0] == reports[1]
