"""Batch scripts for SLURM, run with stand-ins of SLURM's programs: what they start must parse."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deployment.commands import ROOT, check_worldr1

FOLDER = ROOT / "examples" / "slurm"
SRUN = '#!/bin/bash\nSLURM_PROCID=1 exec "$@"\n'
SCONTROL = '#!/bin/bash\n[ "$*" = "show hostnames node[7-8]" ] && printf "node7\\nnode8\\n"\n'
SHOW = '#!/bin/bash\nprintf "%s\\n" "$0" "$@"\n'


@pytest.fixture
def submit(tmp_path):
    """Run a script; returns the arguments of the launcher that it starts on the second machine."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("torchrun", SHOW), ("accelerate", SHOW)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "42",
    }

    def run(script: str, *arguments: str) -> list[str]:
        done = subprocess.run(
            ["bash", str(FOLDER / script), *arguments], env=variables, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    return run


def check_training(arguments: list[str]) -> None:
    options = check_worldr1(arguments).params
    assert options["manifest"] == Path("a manifest.yaml")
    assert options["output_dir"] == Path("/shared/run 1")
    assert options["resume"] is True


def test_torchrun_is_started_on_every_machine(submit):
    from torch.distributed.run import get_args_parser

    program, *arguments = submit("torchrun.sbatch", "a manifest.yaml", "/shared/run 1")
    assert program.endswith("/torchrun")
    parsed = get_args_parser().parse_args(arguments)
    assert (parsed.nnodes, parsed.rdzv_endpoint, parsed.rdzv_id) == ("2", "node7:29500", "42")
    assert (parsed.nproc_per_node, parsed.no_python, parsed.training_script) == ("gpu", True, "worldr1")
    check_training(parsed.training_script_args)


@pytest.mark.parametrize("config", ["ddp", "fsdp2", "deepspeed"])
def test_accelerate_is_started_on_every_machine_with_its_rank(submit, config):
    from accelerate.commands.launch import launch_command_parser

    given = [] if config == "fsdp2" else [f"examples/accelerate/{config}.yaml"]
    program, command, *arguments = submit("accelerate.sbatch", "a manifest.yaml", "/shared/run 1", *given)
    assert (program.endswith("/accelerate"), command) == (True, "launch")
    parsed = launch_command_parser().parse_args(arguments)
    assert (parsed.num_machines, parsed.num_processes, parsed.machine_rank) == (2, 16, 1)
    assert (parsed.main_process_ip, parsed.main_process_port, parsed.no_python) == ("node7", 29500, True)
    assert (ROOT / parsed.config_file).is_file()
    assert parsed.training_script == "worldr1"
    check_training(parsed.training_script_args)


@pytest.mark.parametrize("script", ["torchrun.sbatch", "accelerate.sbatch"])
def test_directives_stand_before_the_first_command_and_arguments_are_required(submit, script):
    lines = (FOLDER / script).read_text(encoding="utf-8").splitlines()
    first = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])
    assert any(line.startswith("#SBATCH --signal=TERM@") for line in lines[:first])
    with pytest.raises(subprocess.CalledProcessError) as failure:
        submit(script, "a manifest.yaml")
    assert "Give the folder of the run" in failure.value.stderr
