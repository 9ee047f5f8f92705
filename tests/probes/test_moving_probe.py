"""`worldr1 probe --moving` from the command line, alone and started twice by torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MANIFEST = """\
version: 1
reconstructor: {name: direct}
rewards:
  - {name: consistency, moving: mask}
"""
PROGRAM = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]


def probe(folder: Path, processes: int) -> dict[str, Any]:
    """The report that the processes leave in a folder."""
    folder.mkdir()
    (folder / "own.yaml").write_text(MANIFEST, encoding="utf-8")
    command = [*PROGRAM, "probe", "consistency", "--manifest", "own.yaml", "--moving", "--quick"]
    command += ["--size", "32", "--frames", "5", "--out", "out"]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command = [*launcher, "--no-python", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("morphing_object") == processes
    assert (folder / "out" / "probe.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    report: dict[str, Any] = json.loads((folder / "out" / "probe.json").read_text(encoding="utf-8"))
    return report


@pytest.mark.slow
def test_processes_of_torchrun_report_what_one_process_does(tmp_path: Path) -> None:
    one, two = (probe(tmp_path / str(count), count) for count in (1, 2))
    assert 0 <= one["auc"]["morphing_object"] <= 1
    assert set(one["sensitivity"]["motion"]["settings"]) == {"nothing moves", "one object moves", "two objects move"}
    assert {**one, "cost": None} == {**two, "cost": None}, "costs depend on the machine"
