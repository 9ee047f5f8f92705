"""The scores of the sample clip."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from unchanged.records import check_record
from worldr1_core.cli import cli

CLIP = Path(__file__).parents[2] / "examples" / "clips" / "push_in.mp4"
FIXED = ("prompt", "scores", "total", "reasons", "details")


def test_scores_of_the_sample_clip():
    arguments = ["score", str(CLIP), "--prompt", "Camera push in. A room with boxes."]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    line = json.loads(done.stdout)
    check_record("score-push-in", {key: line[key] for key in FIXED})
