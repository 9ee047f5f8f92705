"""`worldr1 probe` as a third party runs it, on a reward that is cheap and one that is bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rewards.report_samples import parse
from worldr1_core.cli import cli
from worldr1_rewards import cli_probe
from worldr1_rewards.probes import plan as plans
from worldr1_rewards.probes.plan import HACKS, Case, ProbePlan
from worldr1_rewards.probes.world import CORRUPTIONS


@pytest.fixture(autouse=True)
def small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tiny scene: what is tested here is the command, not a reward."""

    def tiny(size: tuple[int, int], num_frames: int, seed: int, *, moving: bool) -> ProbePlan:
        return ProbePlan((Case("rich", ("push in",), seed),), (0.5, 1.0), size, num_frames, seeds=(seed + 1,))

    monkeypatch.setattr(plans, "quick_plan", tiny)


def probe(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["probe", *map(str, arguments), "--quick", "--size", "24", "--frames", "3"])


def test_the_last_line_on_stdout_is_the_report(tmp_path: Path) -> None:
    done = probe("mean-gradient", "--json", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert report["reward"] == "mean-gradient"
    assert set(report["auc"]) == set(CORRUPTIONS)
    assert all(0 <= value <= 1 for value in report["auc"].values())
    assert set(report["hacks"]) == set(HACKS)
    assert {f["hack"] for f in report["hacks_below_clean"]} >= {"frozen_noise", "pure_noise"}
    assert "clips" in done.stderr
    assert json.loads((tmp_path / "probe.json").read_text()) == report


def test_the_page_shows_frames_of_every_kind_and_a_curve_of_every_corruption(tmp_path: Path) -> None:
    assert probe("contrast", "--out", tmp_path).exit_code == 0
    page = (tmp_path / "probe.html").read_text()
    tree = parse(page)
    shown = {article.attributes["id"] for article in tree.find("article")}
    assert shown == {"clean", *CORRUPTIONS, *HACKS}
    images = [image.attributes for image in tree.find("img")]
    assert len(images) == len(shown)
    assert all(image["src"].startswith("data:image/webp") and image["alt"] for image in images)
    drawings = [drawing.attributes["aria-label"] for drawing in tree.find("svg")]
    assert len(drawings) == len(CORRUPTIONS)
    assert all("at 1.00" in words for words in drawings)
    assert page.count("each scene</span>") == len(CORRUPTIONS)
    links = {link.attributes["href"].removeprefix("#") for link in tree.find("a")}
    assert links <= {"top", "kinds", *shown}
    assert "http" not in page.replace("http-equiv", "")


def test_scores_that_cannot_be_had_are_counted(tmp_path: Path) -> None:
    manifest = tmp_path / "own.yaml"
    manifest.write_text(
        "version: 1\nreconstructor: {name: direct}\n"
        "rewards:\n  - {name: trajectory}\n  - {name: contrast, weight: 0.1}\n"
    )
    done = CliRunner().invoke(
        cli, ["probe", str(manifest), "--quick", "--json", "--size", "20", "--frames", "3"]
    )  # below the reconstructor's least size
    report = json.loads(done.stdout)
    assert report["unscored"]["clean"]["count"] == 2
    assert "too small" in next(iter(report["unscored"]["clean"]["reasons"]))
    assert report["auc"] == dict.fromkeys(CORRUPTIONS)
    assert report["parts"]["contrast"]["auc"]["morph"] is not None
    assert report["hacks_below_clean"][0]["reason"] == "the clean clip has no score"


def test_a_reason_that_rewards_share_is_told_once(tmp_path: Path) -> None:
    manifest = tmp_path / "own.yaml"
    manifest.write_text(
        "version: 1\nreconstructor: {name: direct}\nrewards:\n  - {name: reconstruction}\n  - {name: trajectory}\n"
    )
    done = CliRunner().invoke(cli, ["probe", str(manifest), "--quick", "--json", "--size", "20", "--frames", "3"])
    (reason,) = json.loads(done.stdout)["unscored"]["clean"]["reasons"]
    assert reason.startswith("reconstruction, trajectory: ")
    assert reason.count("too small") == 1


def test_a_table_is_for_people() -> None:
    done = probe("contrast")
    assert done.exit_code == 0
    assert "wrong_direction" in done.stdout
    assert "hacks that reach a clean clip" in done.stdout


def test_the_gate_fails_a_reward_that_a_hack_can_please() -> None:
    done = probe("mean-gradient", "--gate", "0.9")
    assert done.exit_code == 1
    assert "hacks reach a clean clip" in done.stderr
    assert "AUC of" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sharpnes"], "Unknown reward 'sharpnes'"),
        (["default", "--manifest", "x.yaml"], "--manifest goes with"),
        (["absent.yaml"], "cannot be read"),
        (["meta-view"], "requires a judge"),
    ],
)
def test_mistakes_are_told_before_anything_is_rendered(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(cli, ["probe", *arguments, "--quick"])
    assert done.exit_code == 2
    assert words in done.stderr


def test_the_command_is_registered() -> None:
    assert cli_probe.probe.name == "probe"
    assert "probe" in CliRunner().invoke(cli, ["--help"]).output


def test_a_third_party_probes_its_own_reward_in_a_process_of_its_own(site, run_worldr1) -> None:
    site.add(
        "worldr1-first-frame",
        """
        from worldr1_core import hookimpl
        from worldr1_core.errors import ScoreUnavailable
        from worldr1_core.reward import Reward

        class FirstFrame(Reward):
            "How bright the first frame is, in [0, 1]: as blind to a corruption as a reward can be."

            def score(self, clip, inputs):
                if clip.video.frames.std() > 0.28:
                    raise ScoreUnavailable("too loud")
                return float(clip.video.frames[0].mean())

        @hookimpl
        def worldr1_register_rewards():
            return {"first-frame": "worldr1_first_frame:FirstFrame"}
        """,
    )
    done = run_worldr1("probe", "first-frame", "--quick", "--json", "--size", "16", "--frames", "3", site=site)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["auc"]["morph"] == 0.5
    assert report["unscored"]["pure_noise"] == {"count": 3, "of": 3, "reasons": {"too loud": 3}}
    assert report["hacks_below_clean"]
    assert len(done.stdout.splitlines()) == 1
