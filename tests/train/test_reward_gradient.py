"""`reward-gradient`: the update against gradients computed by hand, anchors, constraints, and exact resume."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import TrainerCallback

from train.fake_world import FakeBackbone, FakePolicy
from train.runs import PROMPTS, logged, make_stage, make_trainer, reward
from worldr1_core.backbone import AdapterSpec
from worldr1_core.errors import UserError
from worldr1_core.pipeline import VideoPipeline, VideoRequest
from worldr1_core.seeding import derive_seed
from worldr1_core.video_io import read_video
from worldr1_train.callbacks import SampleVideos
from worldr1_train.checkpoints import find_last_checkpoint
from worldr1_train.objectives.constraints import RatioConstraints
from worldr1_train.objectives.flow_grpo import FlowGRPOObjective
from worldr1_train.objectives.reward_gradient import RewardGradientObjective

STEPS = 6


class _Gradients(TrainerCallback):
    """Keeps the gradients of the first optimiser step."""

    def __init__(self):
        self.first = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.first is None:
            self.first = {name: p.grad.clone() for name, p in model.trainable().items()}


def first_gradients(folder, *, rewards=None, **options):
    watch = _Gradients()
    stage = make_stage(rewards=rewards or [reward("brightness"), reward("redness", 0.5)])
    trainer = make_trainer(folder, stages=[stage], callbacks=[watch], max_grad_norm=0.0, max_steps=1, **options)
    trainer.train()
    return watch.first, trainer


def by_hand(trainer, *, first_gradient=0, predict_from=None):
    """Gradient of minus the mean reward of the first rollout batch, with the sampler written out."""
    backbone = FakeBackbone()
    backbone.add_adapter(AdapterSpec(rank=4))
    scheduler, args = FakePolicy(), trainer.args
    pipeline = VideoPipeline(backbone, STEPS, scheduler, trainer.components.stages[0].conditioner)
    prompts = trainer.schedule.prompts(0, args.prompts_per_rollout_batch, args.seed)
    prompts = [prompt for prompt in prompts for _ in range(args.num_generations)]
    requests = [VideoRequest(prompt, derive_seed(args.seed, "sample noise", 0, i)) for i, prompt in enumerate(prompts)]
    batch = pipeline.prepare(requests)
    x = torch.stack([noise.latents for noise in batch.noises])
    denoiser, text = backbone.denoisers["transformer"], batch.conditioning.tensors["prompt_embeds"]
    sigmas = torch.linspace(1, 0, STEPS + 1)
    last = STEPS if predict_from is None else predict_from + 1
    for i in range(last):
        with torch.set_grad_enabled(i >= first_gradient):
            velocity = denoiser(x, (1000 * sigmas[i]).expand(len(x)), text)
            target = 0.0 if predict_from is not None and i == predict_from else sigmas[i + 1]
            x = x + (target - sigmas[i]) * velocity
    frames = backbone.decode_with_gradient(x)
    score = frames.flatten(1).mean(1) + 0.5 * (frames[:, :, 0] - frames[:, :, 1]).flatten(1).mean(1)
    (-score.mean()).backward()
    return {f"denoisers.transformer.{name}": p.grad for name, p in denoiser.named_parameters() if p.requires_grad}


def assert_same(found, expected, rtol=1e-4):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=1e-8)


def test_gradient_through_the_whole_sampler_is_that_of_the_sampler_written_out(tmp_path):
    found, trainer = first_gradients(tmp_path, objective=RewardGradientObjective())
    assert_same(found, by_hand(trainer))


def test_gradient_through_the_last_steps_stops_before_them(tmp_path):
    objective = RewardGradientObjective(through="last-steps", last_steps=2)
    found, trainer = first_gradients(tmp_path, objective=objective)
    assert_same(found, by_hand(trainer, first_gradient=STEPS - 2))


def test_one_step_predicts_the_clean_video_from_a_random_noise_level(tmp_path):
    objective = RewardGradientObjective(through="one-step")
    found, trainer = first_gradients(tmp_path, objective=objective, num_generations=1, groups_per_rollout=2)
    candidates = [by_hand(trainer, first_gradient=i, predict_from=i) for i in range(STEPS)]
    name = "denoisers.transformer.up.weight"
    assert sum(torch.allclose(found[name], other[name], rtol=1e-4, atol=1e-8) for other in candidates) == 1


def test_neither_micro_batches_nor_recomputation_change_the_gradient(tmp_path):
    objective = {"objective": RewardGradientObjective(kl=0.0)}
    small, _ = first_gradients(tmp_path / "small", per_device_train_batch_size=1, **objective)
    large, _ = first_gradients(tmp_path / "large", per_device_train_batch_size=4, **objective)
    again, _ = first_gradients(tmp_path / "again", gradient_checkpointing=True, **objective)
    assert_same(small, large)
    assert_same(again, large)


def test_single_videos_are_enough(tmp_path):
    """No group is compared, so that every video may have a prompt of its own."""
    found, trainer = first_gradients(
        tmp_path, objective="reward-gradient", num_generations=1, per_device_train_batch_size=1
    )
    assert_same(found, by_hand(trainer))


def test_reward_rises_and_anchors_hold_it(tmp_path):
    def gain(folder, **options):
        trainer = make_trainer(folder, objective=RewardGradientObjective(**options), max_steps=20)
        trainer.train()
        rewards = logged(trainer, "reward")
        return rewards[-1] - rewards[0]

    free = gain(tmp_path / "free")
    assert free > 0.1
    assert gain(tmp_path / "frame", first_frame_anchor=100.0) < 0.5 * free
    assert gain(tmp_path / "kl", kl=100.0) < 0.5 * free


def test_constraints_hold_a_statistic_that_the_reward_would_change(tmp_path):
    """Redness falls when everything becomes brighter by the sigmoid; the constraint keeps it."""

    def ratio(folder, keep):
        stage = make_stage(rewards=[reward("brightness")])
        objective = RewardGradientObjective(keep={"shine": 1.0} if keep else {}, dual_rate=2.0, penalty=20.0)
        trainer = _with_statistic(folder, stage, objective)
        trainer.train()
        return trainer

    held = ratio(tmp_path / "held", keep=True)
    free = ratio(tmp_path / "free", keep=False)
    ratios = logged(held, "keep/shine/ratio")
    assert ratios[0] == pytest.approx(1.0, abs=1e-5), "the policy begins as the reference"
    assert abs(ratios[-1] - 1) < 0.02
    assert logged(free, "reward")[-1] / logged(free, "reward")[0] > 1.1, "without the constraint it is not held"


def _with_statistic(folder, stage, objective, statistic=None, callback=None, max_steps=40, size=2):
    from dataclasses import replace

    from worldr1_core.compose import ScoringComponents, WeightedReward
    from worldr1_core.frame_scoring import FrameScorer
    from worldr1_train.stages import WeightedObjective

    measured = statistic or reward("brightness").reward
    shine = FrameScorer(ScoringComponents([WeightedReward("shine", 1.0, measured)], None, None))
    stage = replace(stage, objectives=(WeightedObjective(objective, 1.0, shine),))
    return make_trainer(
        folder,
        stages=[stage],
        max_steps=max_steps,
        per_device_train_batch_size=size,
        callbacks=[callback] if callback else None,
    )


def test_diversity_of_the_videos_of_a_prompt_is_held(tmp_path):
    """Unbounded brightness makes all videos of a prompt white; the floor keeps their distances."""

    def last_ratio(folder, **options):
        objective = RewardGradientObjective(keep_diversity=0.95, **options)
        groups = {"groups_per_rollout": 2, "prompts_per_rollout_batch": 2}  # micro-batches must not split them
        trainer = make_trainer(folder, objective=objective, num_generations=2, max_steps=40, **groups)
        trainer.train()
        ratios = logged(trainer, "keep/diversity/ratio")
        assert ratios[0] == pytest.approx(1.0, abs=1e-5), "the policy begins as the reference"
        return ratios[-1]

    free = last_ratio(tmp_path / "free", dual_rate=0.0, penalty=0.0)
    held = last_ratio(tmp_path / "held", dual_rate=2.0, penalty=20.0)
    assert free < 0.9
    assert held > free + 0.5 * (0.95 - free)


@pytest.mark.parametrize(("group", "batch"), [(1, 1), (2, 1), (2, 3), (4, 6)])
def test_diversity_needs_groups_that_micro_batches_do_not_split(tmp_path, group, batch):
    with pytest.raises(UserError, match=f"group_size {group} .* micro_batch_size {batch} .* multiple of the other"):
        make_trainer(
            tmp_path,
            objective={"name": "reward-gradient", "keep_diversity": 1.0},
            num_generations=group,
            per_device_train_batch_size=batch,
            groups_per_rollout=3,
            prompts_per_rollout_batch=3,
        )


def test_a_reward_that_is_also_a_statistic_is_computed_once(tmp_path):
    """The gradient is that of two computations."""
    shared = reward("brightness")
    calls = []
    original = shared.reward.score_frames
    shared.reward.score_frames = lambda *given: calls.append(1) or original(*given)
    options = {"keep": {"shine": 1.1}, "penalty": 3.0, "exact_ratios": False}

    def gradients(folder, statistic):
        calls.clear()
        watch = _Gradients()
        stage = make_stage(rewards=[shared])
        trainer = _with_statistic(folder, stage, RewardGradientObjective(**options), statistic, watch, max_steps=1)
        trainer.train()
        return watch.first, len(calls)

    twice, separate = gradients(tmp_path / "twice", reward("brightness").reward)
    once, together = gradients(tmp_path / "once", shared.reward)
    assert together == separate > 0
    assert_same(once, twice)


def test_multiplier_settles_where_the_constraint_is_met():
    """A statistic that answers a push of its factor: the dual ascent finds the push that gives the target."""
    constraints = RatioConstraints({"motion": 1.05}, {"text": 0.9}, rate=0.3, penalty=0.0)
    motion, text = 0.8, 1.0
    one = torch.ones(1)
    for _ in range(200):
        values = {"motion": torch.tensor([motion], requires_grad=True), "text": torch.tensor([text])}
        constraints.record(values, {"motion": one, "text": one}, lambda x: x)
        loss = constraints.loss(values, {"motion": one, "text": one}, {"motion": one[0], "text": one[0]})
        loss.sum().backward()
        motion = 0.8 - 0.5 * float(values["motion"].grad)
        found = constraints.update()
    assert motion == pytest.approx(1.05, abs=1e-3)
    assert found["motion"][1] == pytest.approx(0.5, abs=1e-2)
    assert found["text"][1] == 0.0, "a floor that is met does not push"


def test_penalty_pushes_against_the_residual_of_the_same_videos():
    """The gradient is that of the augmented Lagrangian, over the videos of all processes."""
    constraints = RatioConstraints({"motion": 1.1}, {}, rate=0.5, penalty=4.0)
    references = torch.tensor([0.5, 1.5, 1.0])
    other = torch.tensor([2.0, 2.0], dtype=torch.float64)  # sums of values and references on another process
    for multiplier in (0.0, 0.5 * (1.1 - 6.5 / 5)):
        values = torch.tensor([1.0, 2.0, 1.5], requires_grad=True)
        constraints.record({"motion": values}, {"motion": references}, lambda own: torch.cat([own, other]))
        loss = constraints.loss({"motion": values}, {"motion": references}, {"motion": torch.tensor(1.0)})
        loss.mean().backward()
        again = torch.tensor([1.0, 2.0, 1.5], requires_grad=True)
        ratio = again.mean()
        factor = multiplier + 4.0 * (1.1 - 6.5 / 5)
        (factor * (1.1 - ratio)).backward()
        torch.testing.assert_close(values.grad, again.grad)
        assert constraints.update()["motion"][0] == pytest.approx(6.5 / 5)


def test_videos_still_to_come_are_taken_at_the_average():
    """The residual of the first micro-batches is not that of few videos; the last one has that of all."""
    constraints = RatioConstraints({"motion": 1.0}, {}, rate=0.0, penalty=2.0)

    def factor(*values, scale=1.0):
        references = scale * torch.ones(len(values))
        own = torch.tensor(values) * scale
        constraints.record({"motion": own}, {"motion": references}, lambda x: x)
        own.requires_grad_()
        constraints.loss({"motion": own}, {"motion": references}, {"motion": torch.tensor(1.0)}).sum().backward()
        return -float(own.grad[0])

    assert factor(1.2, 1.4) == pytest.approx(2 * (1 - 1.3)), "nothing is known before the first update"
    assert factor(0.8, 0.6) == pytest.approx(0.0, abs=1e-6)
    assert constraints.update()["motion"][0] == pytest.approx(1.0)
    assert factor(1.4, 1.4, scale=0.1) == pytest.approx(2 * (1 - (1.4 + 1.0) / 2)), "half of the videos are missing"
    assert factor(1.2, 1.2, scale=0.1) == pytest.approx(2 * (1 - 1.3)), "all are there, however small their values"
    assert factor(0.7, 0.7, scale=0.1) == pytest.approx(2 * (1 - 1.1)), "there are more videos than before"
    constraints.update()
    state = constraints.state_dict()
    constraints = RatioConstraints({"motion": 1.0}, {}, rate=0.0, penalty=2.0)
    constraints.load_state_dict(state)
    average = 0.7 + 0.3 * 1.1
    assert factor(0.5, 0.5) == pytest.approx(2 * (1 - (0.5 + 2 * average) / 3), abs=1e-6)


def test_constraints_do_not_depend_on_micro_batches(tmp_path):
    """The ratios of an update are those of all its videos, whichever of them are processed together."""

    def trained(name, size, **options):
        objective = RewardGradientObjective(keep={"shine": 1.2}, dual_rate=1.0, penalty=20.0, **options)
        trainer = _with_statistic(
            tmp_path / name, make_stage(rewards=[reward("redness")]), objective, max_steps=4, size=size
        )
        trainer.train()
        return trainer.model.trainable()

    whole = trained("whole", size=4)
    assert_same(trained("parts", size=1), whole)
    estimated = trained("estimated", size=1, exact_ratios=False)
    name = "denoisers.transformer.up.weight"
    assert not torch.allclose(estimated[name], whole[name], rtol=1e-3), "the option has an effect"


def test_rewards_that_do_not_apply_add_nothing(tmp_path):
    from worldr1_core.compose import WeightedReward
    from worldr1_core.reward import Reward

    class Nothing(Reward):
        def score(self, clip, inputs):
            return 0.0

        def score_frames(self, frames, clips, inputs):
            return frames.new_full((len(frames),), torch.nan)

    rewards = [reward("brightness"), reward("redness", 0.5), WeightedReward("nothing", 3.0, Nothing())]
    found, trainer = first_gradients(tmp_path, rewards=rewards, objective="reward-gradient")
    assert_same(found, by_hand(trainer))


def test_rewards_without_gradients_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"needs the gradients of rewards, and \['fragile'\] have none"):
        make_trainer(
            tmp_path, stages=[make_stage(rewards=[reward("fragile"), reward("redness")])], objective="reward-gradient"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"through": "last-steps", "last_steps": 7}, "exceeds the 6 steps"),
        ({"keep": {"redness": 1.0}, "at_least": {"redness": 0.9}}, "both constrain"),
        ({"keep": {"redness": -1.0}}, "greater than 0"),
        ({"keep": {"diversity": 1.0}, "keep_diversity": 0.9}, "keep_diversity constrains 'diversity'"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        make_trainer(tmp_path, objective={"name": "reward-gradient", **options})


def test_samples_show_the_videos_of_the_update_and_not_those_of_the_reference(tmp_path):
    trainer = make_trainer(
        tmp_path,
        objective="reward-gradient",
        max_steps=3,
        learning_rate=0.5,
        num_sample_videos=2,
        sample_videos_every=1,
    )
    trainer.add_callback(SampleVideos(trainer, tmp_path))
    trainer.train()
    written = sorted(tmp_path.glob("samples/*.mp4"))
    assert len(written) == 6
    record = json.loads(written[-1].with_suffix(".json").read_text())
    assert record.keys() == {"prompt"}
    brightness = [float(read_video(path).frames.mean()) for path in written]
    assert sum(brightness[4:]) > sum(brightness[:2]) + 0.5, "the third step shows what the first two have taught"


class _Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:  # within a rollout batch of two updates
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["alone", "beside flow-grpo"])
def test_resumed_run_is_bit_identical(tmp_path, kind):
    """The checkpoint lies within a rollout batch, whose clips command camera paths."""

    def run(folder, callbacks=(), resume=None):
        objective = RewardGradientObjective(kl=0.1, first_frame_anchor=0.1)
        trainer = make_trainer(
            folder,
            stages=[make_stage(prompts=["Camera push in. A room.", *PROMPTS], rewards=[reward("gain")])],
            objective=objective if kind == "alone" else [objective, FlowGRPOObjective(kl=0.0)],
            callbacks=list(callbacks),
            updates_per_rollout_batch=2,
            max_steps=6,
            save_strategy="steps",
            save_steps=1,
            save_total_limit=2,
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [_Stop()])
    resumed = run(tmp_path / "cut", resume=str(find_last_checkpoint(tmp_path / "cut")))
    for name in ("loss", "grad_norm", "reward", "kl"):
        assert logged(resumed, name) == logged(whole, name)
