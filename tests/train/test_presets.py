"""The shipped manifests validate, and hold the constants of the paper (section 3 of the method)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from worldr1_core.compose import compose_scoring
from worldr1_core.manifest import load_manifest
from worldr1_core.placement import PlacedReward, RemoteScorer
from worldr1_core.plugins import installed
from worldr1_rewards.serving.environments import WITHOUT_REQUIREMENTS
from worldr1_rewards.serving.placements import WorkerPlacement

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = ("small", "large", "cogvideox")
VARIANTS = ("", "-lite", "-release")
PRESETS = [f"{model}{variant}" for model in MODELS for variant in VARIANTS]
GEOMETRY = ["meta-view", "reconstruction", "trajectory"]


def load(name):
    return load_manifest(EXAMPLES / f"world-r1-{name}.yaml", installed().registry)


@pytest.fixture
def parts(monkeypatch):
    """What workers are asked to run, by the extras of their environments; none is started."""
    found = {}

    def connect(self, part):
        environment = self.config.environment
        found[None if environment is None else tuple(environment.extras)] = part
        return RemoteScorer.__new__(type("Scorer", (RemoteScorer,), {"score": None}))

    monkeypatch.setattr(WorkerPlacement, "connect", connect)
    return found


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_manifest_validates_and_its_prompts_are_there(path):
    manifest = load_manifest(path, installed().registry)
    assert manifest.prompts
    for place in manifest.prompts.values():
        assert (path.parent / place).exists()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_the_papers_constants(name):
    manifest = load(name)
    train = manifest.sections["train"]
    backbone = manifest.backbone.options
    assert (backbone["height"], backbone["width"], backbone["num_frames"]) == (480, 832, 81)
    assert backbone["guidance_scale"] == (6.0 if name.startswith("cogvideox") else 5.0)
    assert manifest.sampler.options["num_inference_steps"] == 50
    assert manifest.sampler.options["eta"] == 0.7
    assert (train.group_size, train.prompts_per_rollout_batch) == (8, 48)
    assert [(stage.steps, stage.prompts) for stage in train.stages] == [(100, "main"), (50, "dynamic")]
    assert train.stages[1].rewards == ["preference"]
    assert (train.adapter.rank, train.adapter.alpha) == (32, 64)
    optimiser, objective = train.optimiser, train.objective
    assert (optimiser.learning_rate, optimiser.weight_decay, optimiser.max_grad_norm) == (1e-4, 1e-4, 1.0)
    assert (objective.clip, objective.kl, objective.advantage_clip) == (1e-3, 0.004, 5.0)
    assert (train.ema.decay, train.ema.every) == (0.9, 8)
    assert train.precision == "bfloat16"
    assert train.gradient_checkpointing
    assert [(reward.name, reward.weight) for reward in manifest.rewards] == [
        (reward, 1.0) for reward in (*GEOMETRY, "preference")
    ]
    assert manifest.rewards[1].options == {"metric": "lpips"}
    assert "Qwen3-VL" in manifest.judge.options["model"]


@pytest.mark.parametrize(("name", "strength"), [("small", 0.35), ("large", 0.40), ("cogvideox", 0.40)])
def test_noise_is_that_of_the_release(name, strength):
    noise = load(name).noise
    assert noise.name == "camera-warp"
    assert noise.options == {"injection": "stepwise-delta", "degradation": 0.35, "strength": strength}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_variants_differ_in_reconstructor_and_preference_alone(model, variant):
    paper, other = (load(f"{model}{suffix}") for suffix in ("", variant))
    changed = {"reconstructor", "rewards"}
    assert paper.model_dump(exclude=changed) == other.model_dump(exclude=changed)
    assert paper.sections == other.sections
    assert paper.rewards[:3] == other.rewards[:3]
    assert other.rewards[3].options == {"model": "hpsv2.1", "num_frames": 1}
    assert (paper.reconstructor == other.reconstructor) == (variant == "-release")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("variant", "extra", "version"), [("", "hpsv3", "hpsv3"), ("-release", "hps", "hpsv2.1")])
def test_rewards_of_the_paper_run_in_environments_of_their_own(parts, model, variant, extra, version):
    manifest = load(f"{model}{variant}")
    metrics = manifest.sections["train"].evaluation.metrics
    names = [*(reward.name for reward in manifest.rewards), *metrics]
    components = compose_scoring(manifest, installed().registry, only=list(dict.fromkeys(names)), device="cpu")
    assert parts.keys() == {("da3",), (extra,)}
    reconstructed, preferred = parts["da3",], parts[extra,]
    assert (reconstructed.reconstructor.name, reconstructed.reconstructor.options["process_res"]) == ("da3", 504)
    judge = reconstructed.judge
    assert (judge.name, judge.options) == (manifest.judge.name, manifest.judge.options)
    assert {reward.name for reward in reconstructed.rewards} == {*GEOMETRY, "psnr", "psnr-normalised"}
    assert [reward.options["model"] for reward in preferred.rewards] == [version]
    assert preferred.reconstructor is preferred.judge is components.reconstructor is components.judge is None
    here = [weighted.name for weighted in components.rewards if not isinstance(weighted.reward, PlacedReward)]
    assert here == ["camera-accuracy", "mean-gradient", "contrast", "motion"]


@pytest.mark.parametrize("model", MODELS)
def test_lite_presets_need_one_environment(parts, model):
    components = compose_scoring(load(f"{model}-lite"), installed().registry, device="cpu")
    assert parts == {}
    assert type(components.reconstructor).__name__ == "DirectReconstructor"


def test_extras_of_the_presets_are_there():
    known = {*metadata.metadata("worldr1-rewards").get_all("Provides-Extra"), *WITHOUT_REQUIREMENTS}
    for name in PRESETS:
        manifest = load(name)
        placed = [spec.placement for spec in (manifest.reconstructor, *manifest.rewards) if spec.placement is not None]
        assert {extra for place in placed for extra in place.options["environment"]["extras"]} <= known
        assert len(placed) == (0 if name.endswith("-lite") else 2)
