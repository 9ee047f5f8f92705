"""`worldr1 probe --clips` on a folder of small clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from probes.footage_clips import write_clip
from rewards.report_samples import parse
from worldr1_core.cli import cli
from worldr1_rewards.probes import plan as plans
from worldr1_rewards.probes.footage import QUICK_CORRUPTIONS, QUICK_HACKS
from worldr1_rewards.probes.plan import Case, ProbePlan


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    write_clip(folder, "one")
    write_clip(folder, "two", "push in", 5)
    return folder


def probe(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["probe", *map(str, arguments), "--quick"])


def test_real_clips_alone_are_reported_under_a_key_of_their_own(clips: Path) -> None:
    (clips / "broken.mp4").write_bytes(b"no video")
    done = probe("contrast", "--clips", clips, "--json")
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert set(report) == {"reward", "footage", "versions"}
    footage = report["footage"]
    assert tuple(footage["auc"]) == QUICK_CORRUPTIONS
    assert tuple(footage["hacks"]) == QUICK_HACKS
    assert footage["clips"] == 2 * (1 + len(QUICK_CORRUPTIONS) + len(QUICK_HACKS))
    assert footage["plan"] == {"cases": ["one.mp4", "two.mp4"], "severities": [1.0]}
    assert set(footage["left_out"]) == {"broken.mp4"}
    assert "Left out: broken.mp4: " in done.stderr


def test_the_rendered_clips_are_probed_beside_them_when_asked_for(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ProbePlan((Case("rich", ("push in",), 0),), (1.0,), (24, 24), 3, corruptions=("morph",), hacks=("blur",))
    monkeypatch.setattr(plans, "quick_plan", lambda *_, **__: plan)
    alone = json.loads(probe("contrast", "--json").stdout)
    done = probe("contrast", "--clips", clips, "--rendered", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stdout.index("rendered clips") < done.stdout.index("real clips")
    both = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert {key: value for key, value in both.items() if key not in ("footage", "cost")} == {
        key: value for key, value in alone.items() if key != "cost"
    }
    tree = parse((tmp_path / "out" / "probe.html").read_text())
    shown = [article.attributes["id"] for article in tree.find("article")]
    assert shown[:3] == ["clean", "morph", "blur"]
    assert shown[3:] == [f"footage-{kind}" for kind in ("clean", *QUICK_CORRUPTIONS, *QUICK_HACKS)]
    links = {link.attributes["href"].removeprefix("#") for link in tree.find("a")}
    assert links <= {"top", "kinds", *shown}
    assert len(tree.find("img")) == len(shown)


def test_the_gate_counts_real_clips(clips: Path) -> None:
    done = probe("mean-gradient", "--clips", clips, "--gate", "0.9")
    assert done.exit_code == 1
    assert "AUC of" in done.stderr


def test_a_reward_that_applies_to_no_clip_is_an_error_that_names_the_missing_cameras(clips: Path) -> None:
    for path in clips.glob("*.json"):
        path.unlink()
    done = probe("camera-accuracy", "--clips", clips)
    assert done.exit_code == 2
    assert "one.mp4: has no camera path file beside it; camera-accuracy does not apply" in done.stderr
    assert "needs at least 2" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clips", "absent"], "no such file or folder"),
        (["--clips", ".", "--size", "48"], "--size: chooses rendered clips"),
        (["--clips", ".", "--frames", "9"], "Add --rendered"),
    ],
)
def test_mistakes_are_reported_before_anything_is_scored(arguments: list[str], words: str) -> None:
    done = probe("contrast", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
