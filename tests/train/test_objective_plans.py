"""Several objectives in one run: sums, one a stage, and the turns of their micro-batches."""

from __future__ import annotations

import pytest
import torch

from train.fake_world import FakeBackbone, FakeSampler, Redness
from train.runs import logged, make_arguments, make_stage, make_trainer, reward
from worldr1_core.compose import WeightedReward
from worldr1_core.errors import PluginError, UserError
from worldr1_core.plugins import installed
from worldr1_train.errors import TrainingStopped
from worldr1_train.objective_choice import choose_objectives
from worldr1_train.objectives.flow_grpo import FlowGRPOObjective
from worldr1_train.objectives.reward_gradient import RewardGradientObjective
from worldr1_train.trainer import FlowGRPOTrainer
from worldr1_train.turns import Turn


def with_objectives(stage, *pairs):
    from dataclasses import replace

    from worldr1_core.frame_scoring import FrameScorer
    from worldr1_train.stages import WeightedObjective

    objectives = tuple(WeightedObjective(objective, weight) for objective, weight in pairs)
    return replace(stage, objectives=objectives, frame_scorer=FrameScorer(stage.scorer.components))


def test_sum_of_objectives_gives_the_sum_of_their_gradients(tmp_path):
    from train.test_reward_gradient import first_gradients

    grpo = FlowGRPOObjective(kl=0.0)
    gradient = RewardGradientObjective()
    one, _ = first_gradients(tmp_path / "grpo", objective=grpo)
    other, _ = first_gradients(tmp_path / "gradient", objective=gradient)
    both, trainer = first_gradients(tmp_path / "both", objective=[grpo, (gradient, 0.25)])
    for name, value in both.items():
        torch.testing.assert_close(value, one[name] + 0.25 * other[name], rtol=1e-4, atol=1e-7)
    assert logged(trainer, "flow-grpo/ratio/max_deviation") == [0.0], "notes of each objective have names of their own"
    assert logged(trainer, "ratio/max_deviation") == []
    assert logged(trainer, "reward_gain")
    assert logged(trainer, "rewards/redness/mean")
    phases = [logged(trainer, f"seconds/{name}")[0] for name in ("sampling", "decoding", "update")]
    assert sum(phases) <= logged(trainer, "seconds/rollout_batch")[0]


def test_stages_have_objectives_of_their_own_and_fill_up_with_empty_turns(tmp_path):
    grpo = with_objectives(make_stage("main", steps=1), (FlowGRPOObjective(kl=0.0), 1.0))
    gradient = with_objectives(make_stage("dynamic", steps=1), (RewardGradientObjective(), 1.0))
    trainer = make_trainer(tmp_path, stages=[grpo, gradient], max_steps=4)
    assert trainer.turn_plan.per_update == 8, "2 groups x 4 videos x 2 window steps / 2"
    assert trainer.turn_plan.turns(1) == [None] * 4 + [Turn(0, index) for index in range(4)]
    before = {name: p.detach().clone() for name, p in trainer.model.trainable().items()}
    trainer.train()
    assert len(logged(trainer, "ratio/max_deviation")) == 2
    assert len(logged(trainer, "reward")) == 4
    assert any(not torch.equal(before[name], p) for name, p in trainer.model.trainable().items())


def test_every_optimiser_step_is_announced_to_each_objective_once(tmp_path):
    """With its own micro-batches, before the first loss of it."""
    seen = []

    class Watched(RewardGradientObjective):
        def begin_update(self, batches, policy):
            assert not torch.is_grad_enabled()
            seen.append([float(video.sum()) for batch in batches for video in batch.latents])

        def loss(self, batch, policy):
            seen[-1].append("loss")
            return super().loss(batch, policy)

    stage = with_objectives(make_stage("main", steps=2), (FlowGRPOObjective(kl=0.0), 1.0), (Watched(), 1.0))
    trainer = make_trainer(tmp_path, stages=[stage], max_steps=4, updates_per_rollout_batch=2)
    plan = trainer.turn_plan
    openings = [plan.opened_update(0, position) for position in range(plan.per_rollout_batch)]
    assert openings == [[0, 1, 2, 3], [], [], [], [0, 1], [], [4, 5, 6, 7], [], [], [], [2, 3], []]
    trainer.train()
    assert len(seen) == 4
    assert all(len(step) == 6 and step[4:] == ["loss", "loss"] for step in seen)
    assert not set(seen[0][:4]) & set(seen[1][:4]), "the two steps of a rollout batch have videos of their own"


def test_empty_turns_change_nothing(tmp_path):
    """A stage of one objective learns alike, whether or not another stage needs more turns."""
    alone = make_trainer(
        tmp_path / "alone",
        stages=[with_objectives(make_stage("main", steps=2), (RewardGradientObjective(), 1.0))],
        max_steps=2,
    )
    beside = make_trainer(
        tmp_path / "beside",
        stages=[
            with_objectives(make_stage("main", steps=2), (RewardGradientObjective(), 1.0)),
            with_objectives(make_stage("dynamic", steps=2), (FlowGRPOObjective(kl=0.0), 1.0)),
        ],
        max_steps=2,
    )
    for trainer in (alone, beside):
        trainer.train()
    for name in ("loss", "reward", "grad_norm"):
        torch.testing.assert_close(torch.tensor(logged(beside, name)), torch.tensor(logged(alone, name)))


def test_groups_of_one_are_refused_where_videos_are_compared(tmp_path):
    with pytest.raises(UserError, match="compares the videos of a group, received group_size 1"):
        make_trainer(tmp_path, num_generations=1, per_device_train_batch_size=1)


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        ("flow-grpo", {"window": 0}, "'flow-grpo' needs a window.*window 0"),
        (
            {"name": "reward-gradient", "keep_diversity": 0.9},
            {"num_generations": 1, "per_device_train_batch_size": 1},
            "'reward-gradient' compares the videos of a prompt.*group_size 1 .* micro_batch_size 1",
        ),
        (
            {"name": "reward-gradient", "keep": {"contrst": 1.0}},
            {},
            r"Objective 'reward-gradient' \(statistics \['contrst'\]\): Unknown reward 'contrst'.*mean 'contrast'",
        ),
        (
            {"name": "reward-gradient", "keep": {"camera-accuracy": 1.0}},
            {},
            r"'reward-gradient' \(statistics \['camera-accuracy'\]\) needs the gradients .* from the options",
        ),
    ],
)
def test_settings_that_an_objective_cannot_use_are_refused_before_weights_are_loaded(
    tmp_path, monkeypatch, objective, options, message
):
    def fail(*args):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(FakeBackbone, "add_adapter", fail)
    sampler = FakeSampler(num_inference_steps=6, window=options.pop("window", 2))
    arguments = make_arguments(tmp_path, **options)
    with pytest.raises(UserError, match=message):
        FlowGRPOTrainer(
            FakeBackbone(), ["mean-gradient"], arguments, ["a red ball"], sampler=sampler, objective=objective
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loss: loss[:, None], r"tensor of shape \(2,\), one value per item, received .* \(2, 1\)"),
        (lambda loss: loss.mean(), r"received a tensor of shape \(\)"),
        (lambda loss: None, "received None"),
        (lambda loss: loss.detach(), "the loss has no gradient"),
    ],
)
def test_a_loss_of_another_form_stops_the_run(tmp_path, change, message):
    class Odd(FlowGRPOObjective):
        def loss(self, batch, policy):
            return change(super().loss(batch, policy))

    with pytest.raises(PluginError, match=f"Objective 'Odd': .*{message}"):
        make_trainer(tmp_path, objective=Odd()).train()


def test_a_loss_that_is_not_finite_is_blamed_on_its_objective(tmp_path):
    class Broken(FlowGRPOObjective):
        def loss(self, batch, policy):
            return super().loss(batch, policy) * torch.nan

    trainer = make_trainer(tmp_path, objective=[FlowGRPOObjective(), Broken()])
    with pytest.raises(TrainingStopped, match="The loss of 'Broken' is not finite: check this objective"):
        trainer.train()


def test_a_reward_whose_values_are_detached_stops_the_run(tmp_path):
    class Detached(Redness):
        def score_frames(self, frames, clips, inputs):
            return super().score_frames(frames, clips, inputs).detach()

    stage = make_stage(rewards=[WeightedReward("detached", 1.0, Detached())])
    trainer = make_trainer(tmp_path, stages=[stage], objective="reward-gradient")
    with pytest.raises(PluginError, match="Reward 'detached': the values of score_frames have no gradient"):
        trainer.train()


def test_an_objective_without_items_is_refused(tmp_path):
    class Empty(FlowGRPOObjective):
        def num_items(self, num_steps):
            return 0

    with pytest.raises(PluginError, match=r"'Empty': num_items\(2\) must return an integer .* received 0"):
        make_trainer(tmp_path, objective=Empty())


def test_objectives_come_in_every_form():
    registry = installed().registry

    def chosen(given):
        return [(type(c.objective), c.weight) for c in choose_objectives(given, None, registry, "cpu")]

    assert chosen("reward-gradient") == [(RewardGradientObjective, 1.0)]
    assert chosen({"name": "reward-gradient", "weight": 2.0, "kl": 1.0}) == [(RewardGradientObjective, 2.0)]
    assert chosen((RewardGradientObjective, 0.5)) == [(RewardGradientObjective, 0.5)]
    assert chosen(["flow-grpo", (RewardGradientObjective(), 3)]) == [
        (FlowGRPOObjective, 1.0),
        (RewardGradientObjective, 3.0),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("reward-gradent", "Unknown objective 'reward-gradent'.*Did you mean 'reward-gradient'"),
        ({"kl": 1.0}, "needs a name"),
        ({"name": "reward-gradient", "kll": 1.0}, "kll"),
        (("reward-gradient", 0), "above 0, received 0"),
        ([], "empty list"),
        (3.0, "received 3.0"),
    ],
)
def test_what_is_no_objective_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        choose_objectives(given, None, installed().registry, "cpu")


def test_rewards_of_a_manifest_stage_train_by_gradient(tmp_path):
    trainer = make_trainer(
        tmp_path, stages=[make_stage(rewards=[reward("brightness")])], objective="reward-gradient", max_steps=2
    )
    trainer.train()
    assert len(logged(trainer, "rewards/brightness/mean")) == 2


def test_objectives_call_the_model_as_it_is_wrapped_for_several_processes(tmp_path):
    """DDP averages gradients only of passes that go through its wrapper."""
    trainer = make_trainer(tmp_path)
    calls = []
    trainer.model_wrapped = lambda call: calls.append(call) or torch.zeros(1)
    trainer.policy.predict(None)
    assert len(calls) == 1
