"""Arguments that mean nothing for videos, and launches that accelerate would not honour, are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from train.runs import make_arguments, make_stage
from worldr1_core.errors import UserError
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.launch import check_launch
from worldr1_train.objectives.flow_grpo import FlowGRPOObjective
from worldr1_train.stages import WeightedObjective
from worldr1_train.turns import TurnPlan


def test_defaults_are_the_constants_of_the_method(tmp_path):
    got = FlowGRPOConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    expected = {
        "num_generations": 8,
        "epsilon": 1e-3,
        "beta": 0.004,
        "learning_rate": 1e-4,
        "weight_decay": 1e-4,
        "max_grad_norm": 1.0,
        "ema_decay": 0.9,
        "ema_every": 8,
        "advantage_clip": 5.0,
        "recompute_activations": True,
    }
    assert {name: getattr(got, name) for name in expected} == expected


@pytest.mark.parametrize(("device", "expected"), [("cpu", False), ("cuda", True)])
def test_arithmetic_follows_the_device(tmp_path, monkeypatch, device, expected):
    monkeypatch.setattr("worldr1_train.config._device_type", lambda use_cpu: device)
    assert FlowGRPOConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none").bf16 is expected
    assert not FlowGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none").bf16


def test_every_argument_of_ours_has_a_help_text():
    own = FlowGRPOConfig.__annotations__
    assert all(FlowGRPOConfig.__dataclass_fields__[name].metadata.get("help") for name in own)


@pytest.mark.parametrize(
    "option",
    [
        {"use_vllm": True},
        {"vllm_mode": "server"},
        {"temperature": 0.7},
        {"max_completion_length": 64},
        {"loss_type": "grpo"},
        {"gradient_accumulation_steps": 4},
        {"steps_per_generation": 4},
        {"generation_batch_size": 8},
        {"log_completions": True},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_of_tokens_are_refused(tmp_path, option):
    with pytest.raises(UserError, match=f"{next(iter(option))} is not supported: it has no meaning for videos"):
        make_arguments(tmp_path, **option)


@pytest.mark.parametrize(
    "option",
    [
        {"num_generations": 0},
        {"prompts_per_rollout_batch": 0},
        {"max_failed_share": 1.5},
        {"epsilon": -0.1},
        {"multi_objective_aggregation": "sum"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_values_out_of_range_are_refused(tmp_path, option):
    with pytest.raises(UserError, match=next(iter(option))):
        make_arguments(tmp_path, **option)


def test_accumulation_follows_from_the_sizes(tmp_path):
    got = make_arguments(
        tmp_path,
        prompts_per_rollout_batch=6,
        num_generations=4,
        per_device_train_batch_size=2,
        groups_per_rollout=3,
        updates_per_rollout_batch=3,
    )
    assert got.count_micro_batches(2) == 6 * 4 * 2 // 2
    stage = replace(make_stage(), objectives=(WeightedObjective(FlowGRPOObjective()),))
    TurnPlan([stage], got, window=2, num_inference_steps=6)
    assert got.gradient_accumulation_steps == 24 // 3


@pytest.mark.parametrize("name", ["FSDP", "DeepSpeed"])
def test_sharding_on_the_cpu_is_refused(name):
    with pytest.raises(UserError, match=f"{name} is requested, but the run is on the CPU"):
        check_launch("cpu", environment={f"ACCELERATE_USE_{name.upper()}": "true"})
    check_launch("cuda", environment={f"ACCELERATE_USE_{name.upper()}": "true"})


def test_launch_of_several_processes_that_started_one_is_refused():
    launched = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    with pytest.raises(UserError, match=r"several processes but started only one.*torchrun"):
        check_launch("cpu", environment=launched)
    check_launch("cpu", environment={**launched, "WORLD_SIZE": "2", "RANK": "0"})
    check_launch("cpu", environment={"ACCELERATE_MIXED_PRECISION": "no"})


def test_environment_of_accelerates_launcher_is_what_the_check_looks_for():
    """Accelerate's own code makes the environment of `accelerate launch --cpu --num_processes 2`."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    for count, refused in ((2, True), (1, False)):
        parsed = launch_command_parser().parse_args(["--cpu", "--num_processes", str(count), "train.py"])
        parsed, _, _ = _validate_launch_command(parsed)
        _, environment = prepare_simple_launcher_cmd_env(parsed)
        for name in ("WORLD_SIZE", "RANK", *(() if refused else ("MASTER_ADDR",))):
            environment.pop(name, None)
        if refused:
            with pytest.raises(UserError, match="started only one"):
                check_launch("cpu", environment=environment)
        else:
            check_launch("cpu", environment=environment)


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "deepspeed"])
def test_shipped_accelerate_configurations_are_valid(name):
    from pathlib import Path

    from accelerate.commands.config.config_args import ClusterConfig

    path = Path(__file__).parents[2] / "examples" / "accelerate" / f"{name}.yaml"
    config = ClusterConfig.from_yaml_file(str(path))
    assert config.num_processes == 8
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
    if name == "deepspeed":
        assert config.deepspeed_config["zero_stage"] == 2
