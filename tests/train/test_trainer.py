"""What the trainer does to a policy, on a fake world of a few hundred parameters."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import TrainerCallback

from train.fake_world import FakeBackbone, FakeSampler
from train.runs import PROMPTS, logged, make_arguments, make_stage, make_trainer, reward
from worldr1_core.errors import UserError
from worldr1_train.checkpoints import find_last_checkpoint
from worldr1_train.errors import TrainingStopped


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.trainable().items()}


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_ratio_of_the_first_update_is_exactly_one(tmp_path, bf16):
    trainer = make_trainer(tmp_path, bf16=bf16, updates_per_rollout_batch=4, num_iterations=2, max_steps=8)
    trainer.train()
    deviations = logged(trainer, "ratio/max_deviation")
    assert deviations[0] == 0.0
    assert deviations[4] == 0.0, "the first update of the second rollout_batch"
    assert min(deviations[1:4]) > 0, "old log-probabilities stay those of the policy that sampled"


def test_policy_at_the_first_update_is_the_one_that_sampled(tmp_path):
    trainer = make_trainer(tmp_path, updates_per_rollout_batch=2, max_steps=4)
    trainer.train()
    assert logged(trainer, "ratio/rollout_max_deviation")[0] < 1e-6


def test_single_update_needs_no_second_look_at_the_old_policy(tmp_path):
    """With one update per rollout batch the ratio is 1; the drift from the density of the rollout is checked."""
    trainer = make_trainer(tmp_path, max_steps=3)
    trainer.train()
    assert max(logged(trainer, "ratio/rollout_max_deviation")) < 1e-6


def test_reward_rises(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=60, num_generations=8, learning_rate=0.02, beta=0.0)
    trainer.train()
    rewards = logged(trainer, "reward")
    assert sum(rewards[-10:]) / 10 > sum(rewards[:10]) / 10 + 0.1
    assert "train_loss" in trainer.state.log_history[-1]


def test_huge_kl_weight_holds_the_policy(tmp_path):
    """The negative control of the test above; the KL of the free policy is what it must stay far below."""
    free = make_trainer(tmp_path / "free", max_steps=30, learning_rate=0.02, beta=0.0, updates_per_rollout_batch=2)
    held = make_trainer(tmp_path / "held", max_steps=30, learning_rate=0.02, beta=1e4, updates_per_rollout_batch=2)
    for trainer in (free, held):
        trainer.train()
    moved = [logged(trainer, "reward")[-1] - logged(trainer, "reward")[0] for trainer in (free, held)]
    assert moved[0] > 0.03
    assert abs(moved[1]) < 0.2 * moved[0]


@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "full"])
def test_every_trainable_parameter_moves_and_nothing_else(tmp_path, adapter):
    trainer = make_trainer(tmp_path, adapter=adapter, max_steps=3, max_loss=1e6)
    before = weights(trainer)
    frozen = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(frozen[name], after[name]) for name in frozen)
    assert bool(frozen) == adapter


def test_reference_of_full_finetuning_is_the_model_before(tmp_path):
    trainer = make_trainer(tmp_path, adapter=False, max_steps=4, max_loss=1e6)
    initial = weights(trainer)
    trainer.train()
    trained = weights(trainer)
    with trainer.model.reference():
        assert all(torch.equal(initial[name], p) for name, p in trainer.model.trainable().items())
    assert all(torch.equal(trained[name], p) for name, p in trainer.model.trainable().items())
    assert logged(trainer, "kl")[0] == 0.0
    assert logged(trainer, "kl")[-1] > 0


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"async_rewards": False}], ids=str)
def test_options_that_save_memory_or_time_change_no_number(tmp_path, options):
    runs = [make_trainer(tmp_path / name, max_steps=4, **kw) for name, kw in (("plain", {}), ("option", options))]
    for trainer in runs:
        trainer.train()
    assert logged(runs[0], "loss") == logged(runs[1], "loss")
    plain, option = (weights(trainer) for trainer in runs)
    assert all(torch.equal(plain[name], option[name]) for name in plain)


def test_size_of_micro_batches_changes_the_update_only_by_rounding(tmp_path):
    runs = [make_trainer(tmp_path / str(size), max_steps=3, per_device_train_batch_size=size) for size in (1, 4)]
    for trainer in runs:
        trainer.train()
    first, second = (weights(trainer) for trainer in runs)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-5)
    assert logged(runs[0], "reward")[0] == logged(runs[1], "reward")[0]


def test_two_denoisers_are_trained_each_where_it_is_used(tmp_path):
    backbone = FakeBackbone(two_denoisers=True)
    sampler = FakeSampler(num_inference_steps=6, window=2, window_position="fixed", window_start=3)
    trainer = make_trainer(tmp_path, backbone=backbone, sampler=sampler, max_steps=3)
    before = weights(trainer)
    trainer.train()
    moved = {name.split(".")[1] for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert moved == {"transformer", "transformer_2"}


def test_second_denoiser_rests_where_the_window_does_not_reach(tmp_path):
    backbone = FakeBackbone(two_denoisers=True)
    sampler = FakeSampler(num_inference_steps=6, window=2, window_position="fixed", window_start=0)
    trainer = make_trainer(tmp_path, backbone=backbone, sampler=sampler, max_steps=3)
    before = weights(trainer)
    trainer.train()
    moved = {name.split(".")[1] for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert moved == {"transformer"}


def test_stages_change_prompts_and_rewards(tmp_path):
    dynamic = make_stage("dynamic", steps=1, prompts=["a kite"], rewards=[reward("redness")])
    trainer = make_trainer(tmp_path, stages=[make_stage("main", steps=2), dynamic], max_steps=0)
    trainer.train()
    assert trainer.state.global_step == 3, "one cycle where max_steps is left out"
    assert logged(trainer, "stage") == [0, 0, 1]
    assert len(logged(trainer, "rewards/redness/mean")) == 1
    assert len(logged(trainer, "rewards/brightness/mean")) == 2


def test_reward_of_weight_zero_is_logged_and_does_not_train(tmp_path):
    with_extra = [reward("brightness"), reward("redness", 0.0)]
    runs = [
        make_trainer(tmp_path / "one", max_steps=3),
        make_trainer(tmp_path / "two", max_steps=3, stages=[make_stage(rewards=with_extra)]),
    ]
    for trainer in runs:
        trainer.train()
    assert logged(runs[0], "loss") == logged(runs[1], "loss")
    assert len(logged(runs[1], "rewards/redness/mean")) == 3


def test_failed_samples_are_masked_and_counted(tmp_path):
    rewards = [reward("fragile", fails_from=6)]  # samples 6 and 7 of 8: the second group keeps two
    trainer = make_trainer(tmp_path, stages=[make_stage(rewards=rewards)], max_steps=2)
    trainer.train()
    assert logged(trainer, "masked_samples") == [2, 2]
    assert logged(trainer, "skipped_groups") == [0, 0]
    assert all(math.isfinite(loss) for loss in logged(trainer, "loss"))


def test_group_with_one_sample_left_is_skipped(tmp_path):
    trainer = make_trainer(tmp_path, stages=[make_stage(rewards=[reward("fragile", fails_from=5)])], max_steps=1)
    trainer.train()
    assert logged(trainer, "skipped_groups") == [1]
    assert logged(trainer, "masked_samples") == [4]


def test_rollout_batch_without_any_valid_sample_changes_nothing(tmp_path):
    stages = [make_stage(steps=2), make_stage("gone", steps=1, rewards=[reward("fragile", fails_from=0)])]
    trainer = make_trainer(tmp_path, stages=stages, max_steps=3, max_failed_share=1.0, beta=0.0)
    snapshots = []
    trainer.add_callback(_After(lambda: snapshots.append(weights(trainer))))
    trainer.train()
    assert any(not torch.equal(snapshots[0][name], snapshots[1][name]) for name in snapshots[0])
    assert all(torch.equal(snapshots[1][name], snapshots[2][name]) for name in snapshots[1]), "no momentum, no decay"


def test_too_many_failures_stop_the_run_with_a_checkpoint(tmp_path):
    failing = make_stage("gone", steps=1, rewards=[reward("fragile", fails_from=3)])
    trainer = make_trainer(tmp_path, stages=[make_stage(steps=2), failing], max_steps=3)
    with pytest.raises(TrainingStopped, match=r"5 of 8 samples .* the reward server is gone") as stopped:
        trainer.train()
    assert find_last_checkpoint(tmp_path).name == "checkpoint-2"
    assert "checkpoint-2" in str(stopped.value)
    assert stopped.value.exit_code == 1


def test_nan_stops_the_run_before_the_weights_break(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=4)
    trainer.add_callback(_After(lambda: poison(trainer), step=2))
    before = {}

    def poison(trainer):
        before.update(weights(trainer))
        trainer.scheduler.transition = _nan_transition(trainer.scheduler)

    with pytest.raises(TrainingStopped, match="loss of optimiser step 3 is nan"):
        trainer.train()
    assert find_last_checkpoint(tmp_path).name == "checkpoint-2"
    assert all(torch.equal(before[name], value) for name, value in weights(trainer).items())


def test_exploding_loss_stops_the_run(tmp_path):
    trainer = make_trainer(
        tmp_path, max_steps=20, learning_rate=1.0, beta=100.0, max_loss=10.0, updates_per_rollout_batch=4
    )
    with pytest.raises(TrainingStopped, match=r"max_loss is 10\.0"):
        trainer.train()
    assert find_last_checkpoint(tmp_path) is not None


def test_rollouts_share_prefixes_and_prompts_per_group(tmp_path):
    backbone = FakeBackbone()
    sampler = FakeSampler(num_inference_steps=6, window=2, window_position="fixed", window_start=2)
    trainer = make_trainer(tmp_path, backbone=backbone, sampler=sampler, max_steps=1)
    trainer.train()
    assert backbone.num_sampled == 2 + 8, "the prefix runs once a prompt"
    names = [clip.prompt for clip in trainer.last_rollout_batch.clips]
    assert set(names) <= set(PROMPTS)


def test_every_metric_of_a_run_is_logged(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.train()
    entry = trainer.state.log_history[0]
    phases = ("sampling", "decoding", "rewards", "waiting", "update", "rollout_batch")
    assert {f"seconds/{phase}" for phase in phases} <= entry.keys()
    assert {"samples_per_second/rollout_batch", "samples_per_second/update"} <= entry.keys()
    expected = {"reward", "reward_std", "rewards/brightness/mean", "rewards/brightness/std", "masked_samples", "kl"}
    assert expected | {"skipped_groups", "ratio/max_deviation", "clip_ratio/region_mean", "grad_norm"} <= entry.keys()


def test_average_lags_behind_and_can_be_put_on(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=4, ema_every=2, ema_decay=0.9)
    start = weights(trainer)
    snapshots = {}
    trainer.add_callback(_After(lambda: snapshots.update({trainer.state.global_step: weights(trainer)})))
    trainer.train()
    expected = {name: value.clone() for name, value in start.items()}
    for step in (2, 4):
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in expected.items():
            value.mul_(decay).add_(snapshots[step][name], alpha=1 - decay)
    trained = weights(trainer)
    with trainer.averaged():
        for name, value in weights(trainer).items():
            torch.testing.assert_close(value, expected[name])
    assert all(torch.equal(trained[name], value) for name, value in weights(trainer).items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_device_train_batch_size": 3}, r"per_device_train_batch_size \(3\) must divide .* \(4\)"),
        ({"groups_per_rollout": 3}, r"groups_per_rollout \(3\) must divide the 2 groups"),
        ({"updates_per_rollout_batch": 3}, r"updates_per_rollout_batch \(3\) must divide the 8 micro-batches"),
        ({"credit": "pixel"}, r"credit must be one of \('video', 'spatial'\), received 'pixel'"),
        ({"credit": "spatial"}, "credit 'spatial' needs multi_objective_aggregation 'normalize_then_sum'"),
        ({"max_steps": 3, "updates_per_rollout_batch": 2}, r"max_steps \(3\) must be a multiple"),
        ({"max_steps": 4, "ema_every": 8}, r"ends after 4 steps, before the first.*\(ema_every: 8\).*Lower ema_every"),
        ({"sampler": FakeSampler(num_inference_steps=6, window=0)}, "needs a window"),
        ({"sampler": FakeSampler(num_inference_steps=2, window=4)}, "cannot begin"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        make_trainer(tmp_path, **options)


def test_nothing_to_train_is_refused(tmp_path):
    from worldr1_train.trainer import FlowGRPOTrainer

    sampler = FakeSampler(num_inference_steps=6, window=2)
    with pytest.raises(UserError, match="Nothing is trainable"):
        FlowGRPOTrainer(
            FakeBackbone(), args=make_arguments(tmp_path), sampler=sampler, stages=[make_stage()], adapter=False
        )


def test_gdpo_trains(tmp_path):
    rewards = [reward("brightness"), reward("redness")]
    trainer = make_trainer(
        tmp_path, stages=[make_stage(rewards=rewards)], multi_objective_aggregation="normalize_then_sum", max_steps=2
    )
    trainer.train()
    values = trainer.last_advantages.values
    assert abs(float(values.mean())) < 1e-5
    assert float(values.std(unbiased=False)) == pytest.approx(1, abs=1e-3)


def test_spatial_credit_trains_and_keeps_its_ratio(tmp_path):
    trainer = make_trainer(
        tmp_path,
        stages=[make_stage(rewards=[reward("upper-brightness"), reward("redness", 0.1)])],
        multi_objective_aggregation="normalize_then_sum",
        credit="spatial",
        updates_per_rollout_batch=2,
        num_iterations=2,
        num_generations=8,
        max_steps=60,
        learning_rate=0.02,
        beta=0.0,
    )
    trainer.train()
    deviations = logged(trainer, "ratio/max_deviation")
    assert deviations[0] == deviations[2] == 0.0, "the first update of a rollout_batch"
    assert min(deviations[1], deviations[3]) > 0
    assert trainer.last_advantages.values.shape == (16, 4, 4)
    rewards = logged(trainer, "rewards/upper-brightness/mean")
    assert sum(rewards[-10:]) / 10 > sum(rewards[:10]) / 10 + 0.05


def test_credit_of_rewards_without_places_is_that_of_videos(tmp_path):
    trained = []
    for credit in ("video", "spatial"):
        trainer = make_trainer(
            tmp_path / credit, credit=credit, multi_objective_aggregation="normalize_then_sum", max_steps=1, beta=0.0
        )
        trainer.train()
        trained.append(weights(trainer))
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-3, atol=1e-5)


class _After(TrainerCallback):
    """Calls a function after every optimiser step, or after one of them."""

    def __init__(self, function, step=None):
        self._function, self._step = function, step

    def on_step_end(self, args, state, control, **kwargs):
        if self._step in (None, state.global_step):
            self._function()


def _nan_transition(scheduler):
    """The density with a mean that is not finite where gradients are taken, as a broken kernel would give it."""
    original = scheduler.transition

    def transition(point, sample, model_output):
        return original(point, sample, model_output * (math.nan if model_output.requires_grad else 1.0))

    return transition
