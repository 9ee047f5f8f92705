"""Keys, values and names that were renamed: the old spelling works for one version, and warns."""

from __future__ import annotations

import json

import pytest

from train.sites import COMPONENTS, MANIFEST, write_prompts
from train.test_plan import rewards_of
from worldr1_core.errors import ManifestError
from worldr1_core.registry import Alias
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.plan import plan_run, read_manifest, record_run
from worldr1_train.section import ObjectiveSection

NEW = MANIFEST.replace("  max_steps: 16", "  objective: {aggregation: gdpo, credit: spatial}\n  max_steps: 16")
OLD = NEW.replace("_per_rollout_batch:", "_per_block:").replace("credit: spatial", "credit: place")
OLD = OLD.replace("{name: brightness}", "{name: shine}").replace("[brightness", "[shine")


@pytest.fixture
def registry(make_registry):
    registry = make_registry(COMPONENTS)
    registry.add_alias(Alias("reward", "shine", "brightness", registry.find("reward", "brightness").owner))
    return registry


@pytest.fixture
def write(tmp_path):
    write_prompts(tmp_path)

    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "message",
    [
        "The key of train 'prompts_per_block' is now called 'prompts_per_rollout_batch'",
        "The key of train 'updates_per_block' is now called 'updates_per_rollout_batch'",
        "The value of train.objective.credit 'place' is now called 'spatial'",
        "Reward 'shine' is now called 'brightness'",
    ],
)
def test_an_old_manifest_warns(write, registry, message):
    with pytest.warns(FutureWarning, match=message):
        read_manifest(write(OLD), registry, [])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_old_manifest_gives_the_plan_of_the_new_one(write, registry, tmp_path):
    old = plan_run(write(OLD), registry, output_dir=tmp_path / "out")
    new = plan_run(write(NEW), registry, output_dir=tmp_path / "out")
    assert old.manifest.rewards == new.manifest.rewards
    assert old.metrics == new.metrics == ["brightness", "redness", "shine-accuracy"]
    assert old.section.objective == new.section.objective
    assert [rewards_of(old, stage) for stage in old.section.stages] == [["brightness", "redness"], ["brightness"]]
    assert (old.section.prompts_per_rollout_batch, old.section.updates_per_rollout_batch) == (2, 2)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_run_recorded_with_old_names_is_resumed(write, registry, tmp_path):
    record_run(plan_run(write(NEW), registry, output_dir=tmp_path / "out"))
    record = tmp_path / "out" / "run.json"
    text = record.read_text()
    for new, old in (("_per_rollout_batch", "_per_block"), ('"spatial"', '"place"'), ('"brightness"', '"shine"')):
        assert new in text
        text = text.replace(new, old)
    record.write_text(text)
    assert json.loads(text)["train"]["prompts_per_block"] == 2
    plan_run(write(NEW), registry, output_dir=tmp_path / "out", resume=True)
    plan_run(write(OLD), registry, output_dir=tmp_path / "out", resume=True)


def test_a_key_under_both_names_is_refused(write, registry):
    both = NEW.replace("  max_steps", "  prompts_per_block: 2\n  max_steps")
    with pytest.raises(ManifestError, match="unknown key 'prompts_per_block'"):
        read_manifest(write(both), registry, [])


def test_credit_by_place_of_a_config_is_spatial(tmp_path):
    with pytest.warns(FutureWarning, match="The value of credit 'place' is now called 'spatial'"):
        args = FlowGRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            credit="place",
            multi_objective_aggregation="normalize_then_sum",
        )
    assert args.credit == "spatial"


def test_the_schema_offers_the_new_value_alone():
    assert ObjectiveSection.model_json_schema()["properties"]["credit"]["enum"] == ["video", "spatial"]
