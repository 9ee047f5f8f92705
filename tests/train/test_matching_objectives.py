"""`nft` and `awm`: the papers' formulas written out, the old policy, and runs that are exact when resumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler
from safetensors.torch import load_file
from transformers import TrainerCallback

from train.linear_policy import ADVANTAGES, LATENTS, NUM_STEPS, SEED, SHAPE, LinearPolicy
from train.runs import logged, make_stage, make_trainer, reward
from train.sites import COMPONENTS, MANIFEST, add_fake_world, write_prompts
from train.test_processes import start_two
from train.test_resume import result_of, start
from worldr1_backbones.samplers.ddim_sde import DDIMSDEScheduler
from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyStep
from worldr1_train.checkpoints import find_last_checkpoint
from worldr1_train.noising import add_noise
from worldr1_train.objectives.awm import AWMObjective
from worldr1_train.objectives.nft import NFTObjective, optimality_probability
from worldr1_train.objectives.old_policy import OldPolicy
from worldr1_train.trainer import FlowGRPOTrainer


def draws(item, timesteps):
    """Noise level, noised latents and velocity of a micro-batch, in numpy."""
    random = torch.Generator().manual_seed(SEED)
    part = NUM_STEPS // timesteps
    index = int(torch.randint(item * part, (item + 1) * part, (1,), generator=random))
    x0, noise = LATENTS.double().numpy(), torch.randn(SHAPE, generator=random).double().numpy()
    level = 1 - index / NUM_STEPS
    return level, (1 - level) * x0 + level * noise, noise - x0, x0


def prepared_loss(objective, *, item=0, advantages=ADVANTAGES):
    """Loss `(3,)` after the trained weights have moved away from those that sampled."""
    policy = LinearPolicy()
    objective.start(policy)
    with torch.no_grad():
        [data] = objective.prepare([policy.batch(item, advantages)], policy)
    policy.values = {"weight": torch.tensor(0.75, requires_grad=True), "bias": torch.tensor(-0.2)}
    return objective.loss(policy.batch(item, advantages, data=data), policy).detach().numpy()


def velocities(sample):
    """New, old and reference output."""
    return 0.75 * sample - 0.2, 0.6 * sample + 0.1, 0.5 * sample


@pytest.mark.parametrize("item", [0, 1])
def test_nft_is_the_papers_formula(item):
    beta, clip, kl = 0.3, 2.0, 0.05
    got = prepared_loss(
        NFTObjective(beta=beta, advantage_clip=clip, kl=kl, timesteps=2, weighting="uniform"), item=item
    )
    _, sample, target, _ = draws(item, 2)
    new, old, reference = velocities(sample)
    r = np.clip(ADVANTAGES.numpy() / clip, -1, 1) / 2 + 0.5
    positive = (((1 - beta) * old + beta * new - target) ** 2).mean((1, 2, 3))
    negative = (((1 + beta) * old - beta * new - target) ** 2).mean((1, 2, 3))
    expected = (r * positive + (1 - r) * negative) * clip / beta + kl * ((new - reference) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_adaptive_nft_divides_distances_of_the_clean_latents_by_their_mean():
    """The authors' code predicts x0 = x_t - t v and divides by mean |x0 prediction - x0|."""
    got = prepared_loss(NFTObjective(beta=0.5, kl=0.0, timesteps=1))
    level, sample, _, x0 = draws(0, 1)
    new, old, _ = velocities(sample)
    distances = []
    for output in (0.5 * old + 0.5 * new, 1.5 * old - 0.5 * new):
        difference = sample - level * output - x0
        weight = np.abs(difference).mean((1, 2, 3), keepdims=True)
        distances.append((difference**2 / weight).mean((1, 2, 3)))
    r = ADVANTAGES.numpy() / 5 / 2 + 0.5
    np.testing.assert_allclose(got, (r * distances[0] + (1 - r) * distances[1]) * 5 / 0.5, rtol=1e-5)


def test_adaptive_weight_has_no_gradient():
    """Scaling a distance by its own mean is held fixed: the gradient is that of the square alone."""
    policy = LinearPolicy()
    objective = NFTObjective(kl=0.0, timesteps=1)
    objective.start(policy)
    [data] = objective.prepare([policy.batch()], policy)
    weight = torch.tensor(0.6, requires_grad=True)
    policy.values = {**policy.values, "weight": weight}
    loss = objective.loss(policy.batch(data=data), policy)
    level, sample, _, x0 = draws(0, 1)
    difference = sample - level * (0.6 * sample + 0.1) - x0
    slopes = (2 * difference * -level * sample).mean((1, 2, 3)) / np.abs(difference).mean((1, 2, 3))
    [found] = torch.autograd.grad(loss.sum(), weight)
    np.testing.assert_allclose(float(found), (ADVANTAGES.numpy() * slopes).sum(), rtol=1e-4)


@pytest.mark.parametrize("weighting", ["uniform", "sigma", "sigma-squared", "huber"])
def test_awm_is_the_papers_formula(weighting):
    clip, kl = 0.02, 0.05
    got = prepared_loss(AWMObjective(clip=clip, kl=kl, timesteps=1, weighting=weighting))
    level, sample, target, _ = draws(0, 1)
    new, old, reference = velocities(sample)
    weigh = {
        "uniform": lambda e: e,
        "sigma": lambda e: level * e,
        "sigma-squared": lambda e: level**2 * e,
        "huber": lambda e: level * ((e + 1e-10) ** 0.25 - 1e-10**0.25) / 0.25,
    }[weighting]
    errors = [weigh(((output - target) ** 2).mean((1, 2, 3))) for output in (new, old)]
    ratio, advantages = np.exp(errors[1] - errors[0]), ADVANTAGES.numpy()
    assert (np.abs(ratio - 1) > clip).any(), "the case must clip something"
    surrogate = -np.minimum(ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages)
    np.testing.assert_allclose(got, surrogate + kl * ((new - reference) ** 2).mean((1, 2, 3)), rtol=1e-5)


def test_awm_of_one_update_has_the_gradient_of_advantage_times_matching_error():
    policy = LinearPolicy()
    policy.updates_per_rollout = 1
    objective = AWMObjective(kl=0.0, timesteps=1)
    assert objective.prepare([policy.batch()], policy) == [{}]
    weight = torch.tensor(0.6, requires_grad=True)
    policy.values = {**policy.values, "weight": weight}
    [found] = torch.autograd.grad(objective.loss(policy.batch(), policy).sum(), weight)
    _, sample, target, _ = draws(0, 1)
    slopes = (2 * (0.6 * sample + 0.1 - target) * sample).mean((1, 2, 3))
    np.testing.assert_allclose(float(found), (ADVANTAGES.numpy() * slopes).sum(), rtol=1e-5)


@pytest.mark.parametrize("kind", [NFTObjective, AWMObjective])
def test_places_have_losses_of_their_own_under_spatial_credit(kind):
    options = {"weighting": "uniform", "kl": 0.0, "timesteps": 1}
    spatial = {**options, "credit": "spatial", "aggregation": "gdpo"}
    advantages = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1)).clamp(-5, 5)
    got = prepared_loss(kind(**spatial), advantages=advantages)
    _, sample, target, _ = draws(0, 1)
    new, old, _ = velocities(sample)
    a = advantages.numpy()
    if kind is NFTObjective:
        r = a / 10 + 0.5
        places = r * ((new - target) ** 2).mean(1) + (1 - r) * ((2 * old - new - target) ** 2).mean(1)
        expected = 5 * places.mean((1, 2))
    else:
        ratio = np.exp(((old - target) ** 2).mean(1) - ((new - target) ** 2).mean(1))
        expected = -np.minimum(ratio * a, np.clip(ratio, 0, 2) * a).mean((1, 2))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_optimality_is_one_half_for_no_advantage_and_lies_between_0_and_1():
    got = optimality_probability(torch.tensor([-9.0, -5.0, 0.0, 2.5, 5.0, 9.0]), 5.0)
    assert got.tolist() == [0.0, 0.0, 0.5, 0.75, 1.0, 1.0]


def test_every_part_of_the_schedule_gives_one_noise_level():
    policy, objective = LinearPolicy(), NFTObjective(timesteps=NUM_STEPS)
    found = [objective.noised(policy.batch(item), policy).step.point.index for item in range(NUM_STEPS)]
    assert found == list(range(NUM_STEPS))


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon", "sample"])
def test_target_of_diffusion_models_is_what_they_predict(prediction):
    base = CogVideoXDDIMScheduler(prediction_type=prediction, rescale_betas_zero_snr=False)
    scheduler = DDIMSDEScheduler.from_base(base)
    scheduler.set_timesteps(8)
    point = scheduler.point(3)
    nothing = torch.zeros(SHAPE)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    step = PolicyStep(point, nothing, nothing, nothing, 0.0, torch.zeros(3))
    noised = add_noise(scheduler, step, LATENTS, noise)
    signal, spread = point.noise_level**0.5, (1 - point.noise_level) ** 0.5
    expected, scale = {
        "v_prediction": (signal * noise - spread * LATENTS, -spread),
        "epsilon": (noise, -spread / signal),
        "sample": (LATENTS, 1.0),
    }[prediction]
    torch.testing.assert_close(noised.sample, signal * LATENTS + spread * noise)
    torch.testing.assert_close(noised.target, expected, rtol=1e-4, atol=1e-4)
    assert noised.data_scale == pytest.approx(scale, rel=1e-5)


def test_old_policy_follows_once_per_rollout_batch_by_the_papers_schedule():
    policy, old = LinearPolicy(), OldPolicy(rate=0.1, largest=0.35, first=1)
    old.start(policy)
    expected = 0.6
    for update in range(1, 9):
        policy.values["weight"] = torch.tensor(0.6 + update)
        old.end_update(policy)
        if update % 2 == 0:
            eta = min(0.1 * (update - 1), 0.35)
            expected = eta * expected + (1 - eta) * (0.6 + update)
        assert float(old.values["weight"]) == pytest.approx(expected, rel=1e-6)


def test_old_policy_of_another_model_is_refused():
    policy, old = LinearPolicy(), OldPolicy(rate=0.1, largest=0.35, first=1)
    old.start(policy)
    with pytest.raises(UserError, match="old policy differ from the trained parameters"):
        old.load_state_dict({"values": {"weight": torch.zeros(())}, "num_updates": 1})


# Runs


class _StopAt(TrainerCallback):
    def __init__(self, step):
        self._step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self._step:
            raise KeyboardInterrupt


def run(folder, objective, *, stop=None, resume=None, **options):
    settings = {"updates_per_rollout_batch": 2, "save_strategy": "steps", "save_steps": 1, "max_steps": 6}
    callbacks = [] if stop is None else [_StopAt(stop)]
    trainer = make_trainer(folder, objective=objective, callbacks=callbacks, **{**settings, **options})
    trainer.train(resume_from_checkpoint=resume)
    return trainer


OBJECTIVES = {
    "nft": {"name": "nft", "beta": 1.0, "kl": 0.1, "old_decay_rate": 0.1},
    "awm": {"name": "awm", "kl": 0.1, "timesteps": 2},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_resumed_run_is_bit_identical(tmp_path, name):
    whole = run(tmp_path / "whole", OBJECTIVES[name])
    for stop in (4, 5):  # the last checkpoint lies within a rollout batch, and between two
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / f"cut {stop}", OBJECTIVES[name], stop=stop)
        checkpoint = find_last_checkpoint(tmp_path / f"cut {stop}")
        resumed = run(tmp_path / f"cut {stop}", OBJECTIVES[name], resume=str(checkpoint))
        for metric in ("loss", "grad_norm", "reward", "kl", "matching_error"):
            assert logged(resumed, metric) == logged(whole, metric)
            assert logged(whole, metric)
        for parameter, value in whole.model.trainable().items():
            assert torch.equal(value, resumed.model.trainable()[parameter])


def test_a_checkpoint_without_the_state_of_its_objective_is_refused(tmp_path):
    run(tmp_path, OBJECTIVES["nft"], max_steps=2)
    checkpoint = find_last_checkpoint(tmp_path)
    trainer = make_trainer(tmp_path, objective=OBJECTIVES["nft"], max_steps=4, updates_per_rollout_batch=2)
    (checkpoint / "objectives.pt").unlink()
    with pytest.raises(UserError, match=r"no state of NFTObjective: objectives\.pt is missing"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def test_old_policy_samples(tmp_path):
    """Without updates of its own, the old policy goes on sampling what the model before training samples."""
    first = run(tmp_path / "moving", {"name": "nft", "timesteps": 1}, max_steps=4)
    still = NFTObjective(timesteps=1)
    still.end_update = lambda policy: None
    held = run(tmp_path / "still", still, max_steps=4)
    assert logged(first, "reward")[0] == logged(held, "reward")[0]
    assert logged(first, "reward")[1] != logged(held, "reward")[1]
    assert torch.equal(
        still.behaviour()["denoisers.transformer.up.weight"],
        torch.zeros_like(first.model.denoisers.transformer.up.weight),
    )


@pytest.mark.parametrize("kind", [NFTObjective, AWMObjective])
def test_masked_samples_add_nothing(tmp_path, kind):
    class Spoilt(kind):
        """The losses of masked videos are enormous."""

        def loss(self, batch, policy):
            found = super().loss(batch, policy)
            return torch.where(batch.valid, found, 1e6 * found)

    fragile = make_stage(rewards=[reward("fragile", fails_from=6)])
    options = {"stages": [fragile], "max_steps": 2, "max_failed_share": 0.9}
    plain, spoilt = (run(tmp_path / cls.__name__, cls(), **options) for cls in (kind, Spoilt))
    assert logged(plain, "masked_samples") == [2.0]
    assert logged(plain, "loss") == logged(spoilt, "loss")
    for name, value in plain.model.trainable().items():
        assert torch.equal(value, spoilt.model.trainable()[name])


def test_more_noise_levels_than_steps_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"timesteps \(7\) exceeds the 6 steps"):
        make_trainer(tmp_path, objective={"name": "nft", "timesteps": 7})


def test_spatial_credit_without_gdpo_is_refused():
    with pytest.raises(UserError, match="gdpo"):
        AWMObjective(credit="spatial")


def test_manifest_names_the_objective_and_its_options(tmp_path, make_registry):
    write_prompts(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(MANIFEST.replace("train:\n", "train:\n  objective: {name: nft, beta: 0.5}\n"), encoding="utf-8")
    components = {**COMPONENTS, "objective": {"nft": "worldr1_train.objectives.nft:NFTObjective"}}
    trainer = FlowGRPOTrainer.from_manifest(path, registry=make_registry(components), output_dir=tmp_path / "out")
    objectives = [weighted.objective for stage in trainer.components.stages for weighted in stage.objectives]
    assert {type(objective) for objective in objectives} == {NFTObjective}
    assert {objective.config.beta for objective in objectives} == {0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    "objectives",
    [
        "[{name: nft, timesteps: 2}, {name: awm, timesteps: 2, weight: 0.5}]",
        "{name: reward-gradient, keep: {brightness: 1.01}, at_least: {redness: 1.02}, penalty: 500, noised_kl: 1.0}",
    ],
    ids=["matching", "constraints"],
)
def test_two_processes_learn_as_one(tmp_path, objectives):
    add_fake_world(tmp_path / "site")
    write_prompts(tmp_path)
    manifest = MANIFEST.replace("train:\n", f"train:\n  objective: {objectives}\n  evaluation: null\n")
    manifest = manifest.replace("max_steps: 16", "max_steps: 6")
    manifest = "".join(line for line in manifest.splitlines(True) if "evaluation: {" not in line)
    (tmp_path / "run.yaml").write_text(manifest.replace("every: 5", "every: 6"), encoding="utf-8")
    result_of(start(tmp_path, tmp_path / "one"))
    result_of(start_two(tmp_path, tmp_path / "two"))
    one, two = (load_file(tmp_path / name / "checkpoint-6" / "trainable.safetensors") for name in ("one", "two"))
    assert any(bool(value.any()) for name, value in one.items() if name.endswith("up.weight"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
