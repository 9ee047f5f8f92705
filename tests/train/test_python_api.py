"""Training from Python: every argument takes a name or an object, and gives the run that a manifest gives."""

from __future__ import annotations

import subprocess
import sys

import datasets
import pytest

from train.fake_world import Brightness, CostlyWeights, FakeBackbone, FakeSampler, NegatedNoise, Redness
from train.fake_world import __name__ as fake_world
from train.runs import PROMPTS, logged, make_arguments, make_stage
from train.sites import write_prompts
from worldr1_core.errors import UserError
from worldr1_train import FlowGRPOTrainer
from worldr1_train.prompts import choose_prompts

MANIFEST = """\
version: 1
seed: 5
device: cpu
backbone: {name: fake, num_frames: 2}
noise: {name: fake-noise}
sampler: {name: fake-sde, num_inference_steps: 6, window: 2}
rewards:
  - {name: brightness}
  - {name: redness, weight: 0.5}
prompts: {main: train.txt, test: test.txt}
train:
  group_size: 4
  prompts_per_rollout_batch: 2
  micro_batch_size: 2
  stages: [{steps: 2}]
  adapter: {rank: 3, alpha: 3}
  optimiser: {learning_rate: 0.01}
  ema: {every: 1}
  gradient_checkpointing: false
  evaluation: {metrics: [redness], num_prompts: 2}
"""


@pytest.fixture
def registry(make_registry):
    return make_registry(
        {
            "backbone": {
                "fake": f"{fake_world}:FakeBackbone",
                "costly": f"{fake_world}:CostlyWeights",
            },
            "sampler": {"fake-sde": f"{fake_world}:FakeSampler", "flow-sde": f"{fake_world}:FakeSampler"},
            "reward": {"brightness": f"{fake_world}:Brightness", "redness": f"{fake_world}:Redness"},
            "noise conditioner": {"fake-noise": f"{fake_world}:NegatedNoise"},
            "placement": {"broken": f"{fake_world}:BrokenPlacement"},
            "manifest section": {"train": "worldr1_train.section:TrainSection"},
        }
    )


@pytest.fixture
def make(tmp_path, registry):
    """A trainer of two steps: `make(rewards=..., prompts=..., max_steps=2)`."""
    given = ("learning_rate", "max_steps", "seed", "ema_every", "num_train_epochs")

    def make(backbone="fake", rewards="brightness", prompts=PROMPTS, **choices):
        options = {name: choices.pop(name) for name in given if name in choices}
        args = make_arguments(tmp_path / "python", **{"max_steps": 2, **options})
        return FlowGRPOTrainer(backbone, rewards, args, prompts, registry=registry, **choices)

    return make


def by_name(folder):
    return {
        "backbone": {"name": "fake", "num_frames": 2},
        "rewards": ["brightness", ("redness", 0.5)],
        "prompts": str(folder / "train.txt"),
        "sampler": {"name": "fake-sde", "num_inference_steps": 6, "window": 2},
        "noise": "fake-noise",
        "adapter": {"rank": 3, "alpha": 3},
    }


def by_object(folder):
    return {
        "backbone": FakeBackbone(num_frames=2),
        "rewards": [Brightness(), (Redness, 0.5)],
        "prompts": datasets.Dataset.from_dict({"prompt": (folder / "train.txt").read_text().splitlines()}),
        "sampler": FakeSampler(num_inference_steps=6, window=2),
        "noise": NegatedNoise(),
        "adapter": {"rank": 3, "alpha": 3},
    }


@pytest.mark.parametrize("choices", [by_name, by_object])
def test_arguments_in_python_train_as_the_manifest_does(tmp_path, make, registry, choices):
    write_prompts(tmp_path)
    (tmp_path / "run.yaml").write_text(MANIFEST, encoding="utf-8")
    manifest = FlowGRPOTrainer.from_manifest(tmp_path / "run.yaml", output_dir=tmp_path / "out", registry=registry)
    manifest.train()
    python = make(**choices(tmp_path), seed=5)
    python.train()
    for name in ("loss", "reward", "rewards/redness/mean", "grad_norm"):
        assert logged(python, name) == logged(manifest, name)
        assert len(logged(python, name)) == 2


def test_a_function_in_trls_convention_trains(make):
    seen = []

    def mean_of_red(prompts, completions, **kwargs):
        seen.extend(prompts)
        return [float(video[:, 0].mean()) for video in completions]

    trainer = make(rewards=[mean_of_red])
    trainer.train()
    assert set(seen) <= set(PROMPTS)
    assert len(logged(trainer, "rewards/mean_of_red/mean")) == 2


def test_rewards_of_a_manifest(tmp_path, make):
    write_prompts(tmp_path)
    (tmp_path / "run.yaml").write_text(MANIFEST, encoding="utf-8")
    trainer = make(rewards=tmp_path / "run.yaml")
    assert trainer.schedule.stages[0].weights == {"brightness": 1.0, "redness": 0.5}


def test_a_worker_that_cannot_be_made_is_reported_before_weights_are_loaded(tmp_path, registry, monkeypatch):
    monkeypatch.setattr(CostlyWeights, "num_loaded", 0)
    write_prompts(tmp_path)
    placed = MANIFEST.replace("{name: brightness}", "{name: brightness, placement: {name: broken}}")
    (tmp_path / "run.yaml").write_text(placed.replace("name: fake,", "name: costly,"), encoding="utf-8")
    with pytest.raises(UserError, match="uv cannot make the environment"):
        FlowGRPOTrainer.from_manifest(tmp_path / "run.yaml", output_dir=tmp_path / "out", registry=registry)
    assert CostlyWeights.num_loaded == 0
    (tmp_path / "run.yaml").write_text(MANIFEST.replace("name: fake,", "name: costly,"), encoding="utf-8")
    FlowGRPOTrainer.from_manifest(tmp_path / "run.yaml", output_dir=tmp_path / "out", registry=registry)
    assert CostlyWeights.num_loaded > 0


def test_a_run_lasts_the_epochs_where_nothing_else_says_how_long(make):
    assert make(max_steps=-1, num_train_epochs=3).args.max_steps == 3 * len(PROMPTS) // 2
    assert make(max_steps=-1, stages=[{"steps": 5}]).args.max_steps == 5


def test_stages_name_their_prompts_and_rewards(make):
    trainer = make(
        rewards=["brightness", "redness"],
        prompts={"main": list(PROMPTS), "dynamic": ["a kite"]},
        stages=[{"steps": 1}, {"steps": 1, "prompts": "dynamic", "rewards": ["redness"], "noise": False}],
    )
    first, second = trainer.schedule.stages
    assert (first.weights, second.weights) == ({"brightness": 1.0, "redness": 1.0}, {"redness": 1.0})
    assert (first.prompts, second.prompts) == (list(PROMPTS), ["a kite"])


def test_evaluate_measures_the_given_prompts(make):
    trainer = make(evaluation=["a cat", "a dog", "a boat"])
    found = trainer.evaluate()
    assert set(found) == {"eval/brightness"}
    assert 0 < found["eval/brightness"] < 1
    assert trainer.evaluate_policy().prompts == ["a cat", "a dog", "a boat"]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"rewards": None}, "Training needs rewards"),
        ({"prompts": None}, "Training needs prompts"),
        ({"prompts": []}, "has no prompts"),
        ({"prompts": ["a cat", ""]}, "A prompt must be a non-empty text, received ''"),
        ({"prompts": datasets.Dataset.from_dict({"text": ["a"]})}, r"needs a column 'prompt'.*\['text'\]"),
        ({"rewards": "brightnes"}, "Did you mean 'brightness'"),
        ({"backbone": "fak"}, "Did you mean 'fake'"),
        ({"stages": [{"steps": 2, "reward": "all"}]}, "unknown key 'reward'"),
        ({"stages": [{"steps": 2, "prompts": "dynamic"}]}, "Unknown prompt split 'dynamic'"),
        ({"stages": [make_stage()]}, "rewards cannot be given together with Stage objects"),
        ({"adapter": {"rank": 0}}, "'rank'"),
        ({"evaluation": {"metrics": ["gain"]}}, "Unknown reward 'gain'"),
        ({"prompts": {"main": ["a"], "test": ["b"]}, "evaluation": ["c"]}, "given twice"),
    ],
)
def test_mistakes_are_told(make, choices, message):
    with pytest.raises(UserError, match=message):
        make(**choices)


def test_prompts_of_a_split_are_rows_texts_or_a_file(tmp_path):
    (tmp_path / "p.txt").write_text("# two\na cat\na dog\n", encoding="utf-8")
    given = {"file": tmp_path / "p.txt", "rows": [{"prompt": "a cat"}, {"prompt": "a dog"}], "texts": ("a cat",)}
    assert choose_prompts(given) == {"file": ["a cat", "a dog"], "rows": ["a cat", "a dog"], "texts": ["a cat"]}


def test_evaluate_without_prompts_says_what_to_pass(make):
    with pytest.raises(UserError, match="Pass evaluation="):
        make().evaluate()


def test_nothing_is_written_to_stdout(make, capfd):
    make().train()
    assert capfd.readouterr().out == ""


def test_the_package_is_light_and_exports_its_names():
    code = "import sys, worldr1_train as w; print(*{m.partition('.')[0] for m in sys.modules}); dir(w)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "trl", "accelerate", "numpy"}
    import worldr1_train

    assert all(getattr(worldr1_train, name) is not None for name in worldr1_train.__all__)
