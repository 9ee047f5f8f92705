"""A trained run can be shared: its card, adapter configuration and upload, without a network."""

from __future__ import annotations

import json

import pytest
import yaml

from train.fake_world import FakeBackbone, FakeSampler
from train.fake_world import __name__ as fake_world
from train.runs import make_arguments
from worldr1_train import FlowGRPOTrainer
from worldr1_train.objectives.nft import NFTObjective


class Hub:
    """Stands for the API of the hub."""

    def __init__(self):
        self.calls = []

    def create_repo(self, name, **options):
        self.calls.append(("create_repo", name))
        return type("Url", (), {"repo_id": f"somebody/{name}"})()

    def upload_folder(self, **options):
        self.calls.append(("upload_folder", options["repo_id"], options["folder_path"]))
        return "commit"


@pytest.fixture
def trained(tmp_path, make_registry):
    registry = make_registry({"reward": {"brightness": f"{fake_world}:Brightness"}})
    trainer = FlowGRPOTrainer(
        FakeBackbone(),
        [("brightness", 0.5)],
        make_arguments(tmp_path / "shiny", max_steps=2),
        ["a cat", "a dog"],
        sampler=FakeSampler(num_inference_steps=6, window=2),
        adapter={"rank": 3, "alpha": 6},
        evaluation=["a boat", "a house", "a kite"],
        registry=registry,
    )
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    return trainer


def test_a_run_is_pushed_with_its_card_and_adapter(trained, tmp_path, monkeypatch):
    hub, folder = Hub(), tmp_path / "shiny"
    monkeypatch.setattr("transformers.trainer.hf_api", lambda *_, **__: hub)
    assert trained.push_to_hub(dataset_name="somebody/prompts") == "commit"
    assert hub.calls == [("create_repo", "shiny"), ("upload_folder", "somebody/shiny", str(folder))]
    assert (folder / "adapter" / "adapter.pt").is_file()
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 6)
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(metadata)["datasets"] == ["somebody/prompts"]
    assert {"world-r1", "flow-grpo"} <= set(yaml.safe_load(metadata)["tags"])
    assert "objective `flow-grpo`" in text
    assert "| brightness | 0.5 |" in text
    assert "FakeBackbone" in text
    assert "num_inference_steps: 6" in text
    before, after = (json.loads((folder / f"evaluation-{when}.json").read_text()) for when in ("before", "after"))
    row = next(line for line in text.splitlines() if line.startswith("| brightness") and line.count("|") == 5)
    assert f"{before['means']['brightness']:.4g} | {after['means']['brightness']:.4g}" in row
    assert " to " in row, "the change has an interval"


def test_the_card_names_the_objective_that_was_used(tmp_path, make_registry):
    trainer = FlowGRPOTrainer(
        FakeBackbone(),
        [("brightness", 0.5)],
        make_arguments(tmp_path, max_steps=2),
        ["a cat", "a dog"],
        sampler=FakeSampler(num_inference_steps=6, window=2),
        objective=NFTObjective(),
        registry=make_registry({"reward": {"brightness": f"{fake_world}:Brightness"}}),
    )
    trainer.create_model_card()
    _, metadata, text = (tmp_path / "README.md").read_text().split("---\n", 2)
    assert "objective `nft`" in text
    tags = yaml.safe_load(metadata)["tags"]
    assert "nft" in tags
    assert "flow-grpo" not in tags
