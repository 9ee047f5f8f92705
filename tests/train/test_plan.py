"""Everything that is wrong with a run's input is told before anything is started."""

from __future__ import annotations

import importlib.util
import json

import pytest

from train.fake_world import __name__ as fake_world
from train.sites import COMPONENTS, MANIFEST, write_prompts
from worldr1_core.errors import ManifestError, OutputError, UnknownNameError, UserError
from worldr1_train.plan import plan_run, read_manifest, record_run
from worldr1_train.plan_arguments import make_arguments, trainer_arguments
from worldr1_train.stage_rewards import stage_rewards
from worldr1_train.trainer import FlowGRPOTrainer


@pytest.fixture
def registry(make_registry):
    return make_registry(COMPONENTS)


@pytest.fixture
def manifest(tmp_path):
    """Write a manifest beside its prompts: `manifest(("old", "new"), ...)`."""
    write_prompts(tmp_path)

    def write(*replacements):
        text = MANIFEST
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def rewards_of(plan, stage):
    """Names of the rewards that are used in a stage."""
    return stage_rewards(stage, [reward.name for reward in plan.manifest.rewards], plan.registry)


def test_a_good_manifest_gives_a_plan(manifest, registry, tmp_path):
    plan = plan_run(manifest(), registry, output_dir=tmp_path / "out")
    assert plan.prompts["main"][0] == "a red ball"
    assert plan.metrics == ["brightness", "redness", "shine-accuracy"]
    assert rewards_of(plan, plan.section.stages[0]) == ["brightness", "redness"]
    assert rewards_of(plan, plan.section.stages[1]) == ["brightness"]
    assert plan.section.total_steps == 16
    assert not (tmp_path / "out").exists(), "planning leaves nothing behind"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  group_size: 4",
            "  groupsize: 4",
            r"run.yaml:\d+: train: unknown key 'groupsize'.*Did you mean 'group_size'",
        ),
        ("name: brightness}", "name: brightnes}", r"Unknown reward 'brightnes'.*Did you mean 'brightness'"),
        ("micro_batch_size: 2", "micro_batch_size: 3", r"micro_batch_size \(3\) must divide .* \(4\)"),
        ("steps: 6,", "steps: 5,", r"stages.0.steps \(5\) must be a multiple of updates_per_rollout_batch \(2\)"),
        ("max_steps: 16", "max_steps: 3", r"max_steps \(3\) must be a multiple"),
        ("rewards: [brightness]", "rewards: [brightnes]", r"'brightnes' is not a reward of this manifest.*Did you"),
        ("ema: {every: 2}", "ema: {every: 17}", r"ends after 16 steps, before the first.*\(ema.every: 17\)"),
        ("prompts: main}", "prompts: mian}", r"Unknown prompt split 'mian'.*Did you mean 'main'"),
        ("backbone: {name: fake}\n", "", r"needs a backbone.*Installed: \['fake'\]"),
        ("group_size: 4", "objective: {clip: 2}", r"'objective.clip': Input should be less than 1"),
        ("group_size: 4", "objective: {kll: 1}", r"unknown key 'objective.kll'. Allowed: .*Did you mean 'kl'"),
        ("group_size: 4", "objective: {name: nftt}", r"run.yaml:\d+: train.objective: Unknown objective 'nftt'"),
        ("group_size: 4", "objective: [{name: nft, weight: 0}]", r"'objective.0.weight': Input should be greater"),
        ("group_size: 4", "objective: 3", r"'objective': .*a mapping of options.*received 3"),
        ("group_size: 4", "objective: []", r"'objective': .*a mapping of options.*received \[\]"),
        ("group_size: 4", "group_size: 0", r"group_size.*greater than or equal to 1"),
        ("learning_rate: 0.01", "learning_rate: -1", r"learning_rate.*greater than 0"),
        ("{learning_rate: 0.01}", "{decay_steps: 4}", "decay_steps is only supported with schedule warmup_stable"),
        (
            "{learning_rate: 0.01}",
            "{schedule: warmup_stable_decay, warmup_steps: 4, decay_steps: 13}",
            r"warmup_steps \(4\) and decay_steps \(13\) exceed the 16 steps",
        ),
    ],
)
def test_mistakes_in_the_manifest(manifest, registry, tmp_path, old, new, message):
    with pytest.raises(ManifestError, match=message):
        plan_run(manifest((old, new)), registry, output_dir=tmp_path / "out")


def test_learning_rate_that_rises_rests_and_falls(manifest, registry, tmp_path):
    schedule = "{learning_rate: 0.01, schedule: warmup_stable_decay, warmup_steps: 2}"
    plan = plan_run(manifest(("{learning_rate: 0.01}", schedule)), registry, output_dir=tmp_path / "out")
    trainer = FlowGRPOTrainer(**trainer_arguments(plan))
    trainer.create_optimizer_and_scheduler(plan.section.total_steps)
    rates = []
    for _ in range(16):
        rates.append(trainer.lr_scheduler.get_last_lr()[0] / 0.01)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates[:9] == pytest.approx([0, 0.5, 1, 1, 1, 1, 1, 1, 1])
    assert rates[9:] == pytest.approx([7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_a_device_that_is_not_the_first_is_refused(manifest, registry, tmp_path, monkeypatch):
    """transformers trains on the first visible device, whatever the manifest says."""
    monkeypatch.setattr("worldr1_train.plan_arguments.resolve_device", lambda device: device)
    plan = plan_run(manifest(), registry, overrides=["device=cuda:1"], output_dir=tmp_path / "out")
    with pytest.raises(UserError, match=r"received device 'cuda:1'.* CUDA_VISIBLE_DEVICES=1"):
        make_arguments(plan)


def test_stage_whose_rewards_all_weigh_nothing(manifest, registry, tmp_path):
    path = manifest(
        ("{name: redness, weight: 0.5}", "{name: redness, weight: 0}"), ("[brightness], noise", "[redness], noise")
    )
    with pytest.raises(ManifestError, match="no reward with a weight above 0"):
        plan_run(path, registry, output_dir=tmp_path / "out")


def test_metric_that_is_not_installed(manifest, registry, tmp_path):
    with pytest.raises(UnknownNameError, match="psnr"):
        plan_run(manifest(("shine-accuracy]", "psnr]")), registry, output_dir=tmp_path / "out")


def test_default_metrics_are_measured_where_they_are_installed(manifest, make_registry, tmp_path):
    components = {**COMPONENTS, "reward": {**COMPONENTS["reward"], "psnr": f"{fake_world}:Brightness"}}
    path = manifest(("{metrics: [brightness, redness, shine-accuracy]}", "{num_prompts: 3, num_seeds: 2}"))
    plan = plan_run(path, make_registry(components), output_dir=tmp_path / "out")
    assert plan.metrics == ["brightness", "redness", "psnr"]
    assert plan.evaluation_prompts(plan.section.evaluation) == plan.prompts["test"][:3] * 2


def test_rewards_that_compare_with_the_model_before_are_no_metrics(manifest, registry, tmp_path):
    own = ("- {name: redness,", "- {name: gain}\n  - {name: redness,")
    path = manifest(own, ("{metrics: [brightness, redness, shine-accuracy]}", "{num_prompts: 3}"))
    plan = plan_run(path, registry, output_dir=tmp_path / "out")
    assert plan.metrics == ["brightness", "redness"]
    assert "gain" in rewards_of(plan, plan.section.stages[0])
    with pytest.raises(ManifestError, match="'gain', which compares a clip with the model before"):
        plan_run(manifest(own, ("shine-accuracy]", "gain]")), registry, output_dir=tmp_path / "out")


def test_empty_prompt_file(manifest, registry, tmp_path):
    path = manifest()
    (tmp_path / "dynamic.txt").write_text("\n# nothing yet\n")
    with pytest.raises(UserError, match=r"dynamic.txt.*holds no prompt"):
        plan_run(path, registry, output_dir=tmp_path / "out")


def test_place_that_cannot_be_written_to(manifest, registry, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write to folder"):
        plan_run(manifest(), registry, output_dir=tmp_path / "file" / "out")


def test_tracker_that_is_not_installed(manifest, registry, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = manifest(("  max_steps: 16", "  max_steps: 16\n  report_to: [wandb]"))
    with pytest.raises(UserError, match=r"'wandb', which is not installed. Install it with: pip install wandb"):
        plan_run(path, registry, output_dir=tmp_path / "out")


def test_folder_with_a_run_needs_resume(manifest, registry, tmp_path):
    plan = plan_run(manifest(), registry, output_dir=tmp_path / "out")
    record_run(plan)
    with pytest.raises(UserError, match="already contains a run"):
        plan_run(manifest(), registry, output_dir=tmp_path / "out")
    assert plan_run(manifest(), registry, output_dir=tmp_path / "out", resume=True).checkpoint is None


@pytest.mark.parametrize("exists", [False, True])
def test_resume_where_there_is_no_run_is_refused(manifest, registry, tmp_path, exists):
    record_run(plan_run(manifest(), registry, output_dir=tmp_path / "other"))
    if exists:
        (tmp_path / "out").mkdir()
    found = "neither run.json nor a checkpoint" if exists else "no such folder"
    with pytest.raises(UserError, match=rf"no run in '.*out': .*{found}.*parent folder: \['other'\].*omit --resume"):
        plan_run(manifest(), registry, output_dir=tmp_path / "out", resume=True)
    assert (tmp_path / "out").exists() is exists


def test_resume_without_a_whole_checkpoint_is_refused(manifest, registry, tmp_path):
    record_run(plan_run(manifest(), registry, output_dir=tmp_path / "out"))
    (tmp_path / "out" / "checkpoint-4").mkdir()
    with pytest.raises(UserError, match=r"none of the 1 checkpoints .* is complete \(last: 'checkpoint-4', it has no"):
        plan_run(manifest(), registry, output_dir=tmp_path / "out", resume=True)


def test_resume_with_another_manifest_is_refused(manifest, registry, tmp_path):
    record_run(plan_run(manifest(), registry, output_dir=tmp_path / "out"))
    changed = manifest(("learning_rate: 0.01", "learning_rate: 0.02"))
    with pytest.raises(UserError, match=r"another manifest; changed: \['train.optimiser.learning_rate'\]"):
        plan_run(changed, registry, output_dir=tmp_path / "out", resume=True)
    longer = manifest(("max_steps: 16", "max_steps: 32"), ("keep: 2", "keep: 3"))
    assert plan_run(longer, registry, output_dir=tmp_path / "out", resume=True).section.total_steps == 32


def test_overrides_change_values_and_make_new_keys(manifest, registry):
    overrides = ["train.group_size=8", "seed=7", "train.ema=null", "train.stages.1.steps=4", "rewards.0.weight=0.25"]
    got = read_manifest(manifest(), registry, [*overrides, "train.objective.kl=0.1", "train.report_to=[wandb]"])
    section = got.sections["train"]
    assert (got.seed, section.group_size, section.ema, section.stages[1].steps) == (7, 8, None, 4)
    assert (got.rewards[0].weight, section.objective.kl, section.report_to) == (0.25, 0.1, ["wandb"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.group_size", "takes key.of.manifest=value"),
        ("=3", "takes key.of.manifest=value"),
        ("train.stages.7.steps=4", "there is no entry 7; the list has 2 entries"),
        ("train.stages.7=4", "there is no entry 7; the list has 2 entries"),
        ("version.more=4", "version is a plain value"),
        ("version.more.yet=4", "a plain value has no key 'more'"),
        ("train.gruop_size=4", r"with --set: train: unknown key 'gruop_size'"),
    ],
)
def test_overrides_that_cannot_be(manifest, registry, override, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(manifest(), registry, [override])


def test_record_is_plain_json(manifest, registry, tmp_path):
    record_run(plan_run(manifest(), registry, output_dir=tmp_path / "out"))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["train"]["group_size"] == 4
    assert record["backbone"]["name"] == "fake"
