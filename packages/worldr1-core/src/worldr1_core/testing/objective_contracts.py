"""Every contract of `worldr1_core.objective.Objective`, as checks on a stand-in for the model in training."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from worldr1_core.objective import AdvantageOptions, RolloutPlan
from worldr1_core.testing import isolation
from worldr1_core.testing.failures import CheckFailed, CheckSkipped
from worldr1_core.testing.objective_policy import REWARD, SHAPE, KitPolicy
from worldr1_core.testing.objective_subject import (
    GROUP_ROWS,
    GROUP_SIZE,
    LOSS_FORM,
    NUM_ITEMS,
    OTHER_GROUP_ROWS,
    OTHER_ROWS,
    PREPARED,
    ObjectiveRun,
    ObjectiveSubject,
    norm,
)
from worldr1_core.testing.report import Contract
from worldr1_core.testing.subject import COMPONENT_CONTRACTS

TOLERANCE = 1e-5
"""Relative difference of losses that count as equal: sums in float32 depend on their order."""
NOTHING = 1e-4
"""Norm of a gradient that counts as none, relative to that of other advantages."""
STEP = 0.01
"""Length of the step in the trained parameters after which the videos are looked at again."""
NUM_DRAWS = 4
"""Rollout batches whose gradients are averaged for that step, and noises of every matching error."""

_CHOICES = {
    "plan.steps": (RolloutPlan, "steps", ("window", "all")),
    "plan.policy": (RolloutPlan, "policy", ("current", "behaviour", "reference")),
    "advantage_options.aggregation": (AdvantageOptions, "aggregation", ("weighted-sum", "gdpo")),
    "advantage_options.credit": (AdvantageOptions, "credit", ("video", "spatial")),
}


def _plan(subject: ObjectiveSubject) -> None:
    objective = subject.component
    plan, options = objective.plan, objective.advantage_options
    if not isinstance(plan, RolloutPlan) or not isinstance(options, AdvantageOptions):
        raise CheckFailed(f"plan is {plan!r} and advantage_options is {options!r}")
    for name, (owner, attribute, allowed) in _CHOICES.items():
        value = getattr(plan if owner is RolloutPlan else options, attribute)
        if value not in allowed:
            raise CheckFailed(f"{name} is {value!r}; it must be one of {list(allowed)}")
    if not (isinstance(plan.scored, bool) and math.isfinite(options.clip) and options.clip > 0):
        raise CheckFailed(f"plan.scored is {plan.scored!r} and advantage_options.clip is {options.clip!r}")
    if plan.policy == "reference" and not objective.needs_reference:
        raise CheckFailed("plan.policy is 'reference', and needs_reference is false")
    if not all(isinstance(name, str) for name in objective.statistics):
        raise CheckFailed(f"statistics is {objective.statistics!r}; it must hold names")
    if not isinstance(objective.compares_videos, bool):
        raise CheckFailed(
            f"compares_videos is {objective.compares_videos!r}; it must be True or False",
            fix="make compares_videos a property, or a class attribute",
        )


def _num_items(subject: ObjectiveSubject) -> None:
    for num_steps in (subject.num_recorded, 4 * subject.num_recorded):
        found = subject.num_items(subject.component, num_steps)
        if found != subject.num_items(subject.component, num_steps):
            raise CheckFailed(f"num_items({num_steps}) is {found} and then another number")


def _loss_form(subject: ObjectiveSubject) -> None:
    run = subject.run()
    run.prepare()
    for batch, loss in zip(run.batches, run.losses(), strict=True):
        if not bool(torch.isfinite(loss).all()):
            raise CheckFailed(f"the loss of item {batch.item} is {loss.tolist()}")
    length = float(norm(run.gradient()))
    if not math.isfinite(length) or length == 0:
        raise CheckFailed(f"the gradient of all items in the trained parameters has the norm {length}")


def _batch_mates(subject: ObjectiveSubject) -> None:
    if subject.component.compares_videos:
        _check_other_groups(subject)
        return
    run, other = subject.run(), subject.run()
    run.prepare()
    other.prepare(OTHER_ROWS)
    for batch, own, moved in zip(run.batches, run.losses(), other.losses(), strict=True):
        alone, beside = float(own[0].detach()), float(moved[0].detach())
        if not abs(alone - beside) <= TOLERANCE * max(1.0, abs(alone)):
            raise CheckFailed(
                f"the loss of a video at item {batch.item} is {alone:.6g}, and {beside:.6g} beside other videos"
            )


def _check_other_groups(subject: ObjectiveSubject) -> None:
    """Check that the losses of a group are the same whatever other groups are in the micro-batch."""
    run = subject.run(subject.group_rollouts)
    run.prepare(GROUP_ROWS)
    expected = run.losses()
    for company, rows in OTHER_GROUP_ROWS.items():
        other = subject.run(subject.group_rollouts)
        other.prepare(rows)
        found = other.losses()
        same_size = len(rows[0]) == len(GROUP_ROWS[0])
        if not same_size and not all(map(torch.equal, run.random_states(), other.random_states())):
            continue  # the number of draws depends on the size, so that the group has other random numbers
        for batch, before, after in list(zip(run.batches, expected, found, strict=True))[:: len(rows)]:
            for video, (own, moved) in enumerate(zip(before[:GROUP_SIZE].tolist(), after.tolist(), strict=False)):
                if not abs(own - moved) <= TOLERANCE * max(1.0, abs(own)):
                    raise CheckFailed(
                        f"the loss of video {video} at item {batch.item} is {own:.6g} where its group shares the "
                        f"micro-batch with another one, and {moved:.6g} where its group is {company}",
                        fix="compare a video with the videos of its own prompt alone, and divide by their number "
                        "rather than by the size of the micro-batch. The videos of a group are consecutive; "
                        "batch.clips has their prompts, for plans without scores",
                    )


def _repeatable(subject: ObjectiveSubject) -> None:
    run = subject.run()
    found = []
    for seed in (1, 2):
        with isolation.seeded(seed):
            run.prepare()
            found.append([loss.detach() for loss in run.losses()])
    for batch, first, second in zip(run.batches, *found, strict=True):
        if not torch.equal(first, second):
            raise CheckFailed(f"the loss of item {batch.item} is {first.tolist()}, and {second.tolist()} once more")


def _keeps_inputs(subject: ObjectiveSubject) -> None:
    run = subject.run()
    run.prepare()
    tensors = {f"trained parameter {name}": value for name, value in run.policy.parameters().items()}
    for number, batch in enumerate(run.batches):
        own = {"latents": batch.latents, "advantages": batch.advantages, "valid": batch.valid}
        own |= {f"data[{name!r}]": value for name, value in batch.data.items() if isinstance(value, Tensor)}
        for index, step in enumerate(batch.steps()):
            own |= {f"steps[{index}].{name}": getattr(step, name) for name in ("sample", "next_sample", "mean")}
            own |= {f"steps[{index}] {name}": value for name, value in step.calls[0].kwargs.items()}
        for clip in batch.clips:
            own |= isolation.clip_tensors(clip)
        tensors |= {f"{name} of micro-batch {number}": value for name, value in own.items()}
    isolation.check_unchanged(tensors, lambda: (run.prepare_again(), run.losses()))


def _prepared(subject: ObjectiveSubject) -> None:
    run = subject.run()
    for number, data in enumerate(run.prepare()):
        _check_data(number, data)
        read = _saved(dict(data))
        if read.keys() != data.keys() or any(not torch.equal(read[name], value) for name, value in data.items()):
            raise CheckFailed("the prepared data are others after torch.save and torch.load")


def _check_data(number: int, data: Any) -> None:
    if not isinstance(data, Mapping):
        raise CheckFailed(f"the prepared data of micro-batch {number} are {data!r}")
    for name, value in data.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckFailed(f"the prepared data of micro-batch {number} hold {name!r}: {type(value).__name__}")
        if value.requires_grad:
            raise CheckFailed(f"the prepared {name!r} has a gradient")


def _saved(state: Any) -> Any:
    """What a checkpoint gives back.

    Raises:
        CheckFailed: It cannot be written or read.
    """
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckFailed(
            f"torch.save and torch.load(weights_only=True) raised {type(error).__name__}: {error}"
        ) from error


def _zero_advantage(subject: ObjectiveSubject) -> None:
    _require_scores(subject, True)
    run = subject.run()
    run.prepare()
    other = norm(run.gradient())
    run.prepare(advantage_scale=0.0)
    found = norm(run.gradient())
    if not float(found) <= NOTHING * float(other):
        raise CheckFailed(f"the gradient has the norm {found:.3g} with advantages of 0, and {other:.3g} with others")


def _follows_advantages(subject: ObjectiveSubject) -> None:
    _require_scores(subject, True)
    _check_rises(subject.run(), _weighted_likelihood, "mean of advantage times likelihood")


@torch.no_grad()
def _weighted_likelihood(run: ObjectiveRun) -> float:
    """Mean over the videos of their advantage times how likely the model finds them.

    That is the log-density of the recorded stochastic steps, or minus the error of the velocity on the noised video.
    """
    rollouts, policy = run.rollouts, run.policy
    likelihood = torch.zeros(len(rollouts.advantages))
    for step in rollouts.steps:
        if run.objective.plan.steps == "window":
            transition = policy.scheduler.transition(step.point, step.sample, policy.predict(step))
            likelihood += transition.log_prob(step.next_sample)
            continue
        for draw in range(NUM_DRAWS):
            random = torch.Generator().manual_seed(10**6 + draw)
            noise, level = torch.randn(SHAPE, generator=random), step.point.noise_level
            sample = (1 - level) * rollouts.latents + level * noise
            error = policy.predict(step, sample) - (noise - rollouts.latents)
            likelihood -= error.square().flatten(1).mean(1) / NUM_DRAWS
    return float((rollouts.advantages * likelihood).mean())


def _raises_reward(subject: ObjectiveSubject) -> None:
    _require_scores(subject, False)
    _check_rises(subject.run(), _mean_reward, "mean reward")


@torch.no_grad()
def _mean_reward(run: ObjectiveRun) -> float:
    frames = run.policy.decode(run.policy.denoise(run.rollouts.steps).latents)
    return float(run.policy.score_frames(frames, run.rollouts.clips)[REWARD].mean())


def _check_rises(run: ObjectiveRun, measure: Callable[[ObjectiveRun], float], name: str) -> None:
    """Check that a small step against the gradient raises what is measured."""
    before = measure(run)
    run.move(_mean_gradient(run), STEP)
    gain = measure(run) - before
    if not gain > 0:
        raise CheckFailed(f"a step against the gradient changes the {name} by {gain:.3g}; it must rise")


def _mean_gradient(run: ObjectiveRun) -> dict[str, Tensor]:
    """Mean over some draws of the micro-batches' random numbers."""
    found = []
    for seed in range(NUM_DRAWS):
        run.prepare(seed=seed)
        found.append(run.gradient())
    return {name: torch.stack([own[name] for own in found]).mean(0) for name in found[0]}


def _require_scores(subject: ObjectiveSubject, scored: bool) -> None:
    if subject.component.plan.scored != scored:
        raise CheckSkipped("the plan asks for no scores" if scored else "the plan asks for scores: see zero-advantage")


def _state(subject: ObjectiveSubject) -> None:
    if subject.is_instance:
        raise CheckSkipped("one instance cannot be resumed beside itself: pass the class, or a function that makes one")
    run = subject.run()
    _train(run, 3)  # within the second rollout batch
    state = _saved(run.objective.state_dict())
    again = subject.run()
    again.policy.set_parameters(run.policy.parameters())
    again.objective.start(again.policy)
    if state:
        again.objective.load_state_dict(state)
    again.batches = list(run.batches)
    _compare_runs(run, again, "after the state was loaded")
    for resumed in (run, again):
        resumed.update()
        resumed.prepare(seed=7)
    _compare_runs(run, again, "one update later")


def _train(run: ObjectiveRun, num_updates: int) -> None:
    for update in range(num_updates):
        if update % run.policy.updates_per_rollout == 0:
            run.prepare(seed=update)
        run.update()


def _compare_runs(run: ObjectiveRun, again: ObjectiveRun, when: str) -> None:
    behaviours = run.objective.behaviour() or {}, again.objective.behaviour() or {}
    changed = [name for name in behaviours[0] if not torch.equal(behaviours[0][name], behaviours[1].get(name, _NONE))]
    if changed or behaviours[0].keys() != behaviours[1].keys():
        raise CheckFailed(f"behaviour() differs {when}: {changed or 'it has other parameters'}")
    for batch, first, second in zip(run.batches, run.losses(), again.losses(), strict=True):
        if not torch.equal(first, second):
            raise CheckFailed(
                f"the loss of item {batch.item} differs {when}: {second.tolist()}, and {first.tolist()} in the "
                "uninterrupted run"
            )


_NONE = torch.empty(0)


def _behaviour(subject: ObjectiveSubject) -> None:
    run = subject.run()
    found = run.objective.behaviour()
    if run.objective.plan.policy != "behaviour":
        if found is not None:
            raise CheckFailed(f"plan.policy is {run.objective.plan.policy!r}, and behaviour() returns parameters")
        raise CheckSkipped("the plan samples with other weights than the objective's own")
    if found is None:
        return
    _check_parameters(found, run.policy)
    before = {name: value.clone() for name, value in found.items()}
    run.prepare()
    run.move(run.gradient(), STEP)
    moved = [name for name, value in (run.objective.behaviour() or {}).items() if not torch.equal(value, before[name])]
    if moved:
        raise CheckFailed(f"behaviour() changed with the trained parameters {moved} before an update ended")


def _check_parameters(found: Mapping[str, Tensor], policy: KitPolicy) -> None:
    expected = {name: tuple(value.shape) for name, value in policy.parameters().items()}
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    if shapes != expected:
        raise CheckFailed(f"behaviour() has the parameters {shapes}; those that are trained are {expected}")


def _once(subject: ObjectiveSubject) -> None:
    run = subject.run()
    run.prepare()
    run.update()


OBJECTIVE_CONTRACTS: list[Contract[ObjectiveSubject]] = [
    *COMPONENT_CONTRACTS,
    Contract(
        "plan",
        "the trainer samples and scores what the plan says",
        "set the class attribute `plan` to a RolloutPlan, and return an AdvantageOptions",
        _plan,
    ),
    Contract(
        "num-items",
        *NUM_ITEMS,
        _num_items,
    ),
    Contract(
        "loss-form",
        *LOSS_FORM,
        _loss_form,
    ),
    Contract(
        "batch-mates",
        "the micro-batch size is a matter of memory and must not change the update",
        "use no statistics over the micro-batch; compute them over all micro-batches in `prepare` or `begin_update`. "
        "If the loss compares the videos of a prompt, return True from the property `compares_videos`: micro-batches "
        "then hold whole groups, and a loss may depend on the videos of its own group",
        _batch_mates,
    ),
    Contract(
        "repeatable",
        "updates and resumed runs visit a micro-batch again and must find the same loss",
        "draw from batch.generator alone, and change no state in `loss` that a later loss reads",
        _repeatable,
    ),
    Contract(
        "keeps-inputs",
        "later updates read the same tensors, and the optimiser alone changes parameters",
        "use operations out of place; change weights only within policy.with_parameters or policy.reference",
        _keeps_inputs,
    ),
    Contract(
        "prepared-data",
        *PREPARED,
        _prepared,
    ),
    Contract(
        "zero-advantage",
        "groups whose videos are worth the same would move the model",
        "let every term that learns from rewards be 0, or at its minimum, for an advantage of 0 and unchanged weights",
        _zero_advantage,
    ),
    Contract(
        "follows-advantages",
        "training would make good videos less likely",
        "look at the sign of the loss: videos of positive advantage must become likelier than those of negative one",
        _follows_advantages,
    ),
    Contract(
        "raises-reward",
        "training would lower the rewards",
        "look at the sign of the loss, and keep the gradient through policy.denoise, decode and score_frames",
        _raises_reward,
    ),
    Contract(
        "behaviour",
        "a policy that samples must stay as it is between two updates, and be one that the model can hold",
        "clone policy.parameters() in `start`, change the copy in `end_update`; return None unless plan.policy is "
        "'behaviour'",
        _behaviour,
    ),
    Contract(
        "state",
        "a resumed run must be the run that was not interrupted",
        "return everything that changes from update to update from state_dict, and load all of it",
        _state,
    ),
    Contract(
        "leaves-random-state",
        "objectives run between the draws of a training loop; moving the global generator changes the samples",
        "draw from batch.generator alone",
        lambda subject: isolation.check_leaves_random_state(lambda: _once(subject)),
    ),
    Contract(
        "prints-nothing",
        "stdout holds JSON lines that other programs read",
        "log with policy.note",
        lambda subject: isolation.check_prints_nothing(lambda: _once(subject)),
    ),
]
"""All contracts of an objective."""
