"""The forms in which rewards can be given in Python: names, classes, objects and functions, each with a weight."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worldr1_core.component_specs import component_spec
from worldr1_core.errors import UserError, shorten
from worldr1_core.manifest import RewardSpec
from worldr1_core.registry import RESERVED, Registry
from worldr1_core.reward import Reward
from worldr1_core.reward_function import FunctionReward

RewardLike = str | Mapping[str, Any] | RewardSpec | Reward | type[Reward] | Callable[..., Any] | tuple[Any, float]
"""A reward, in any of these forms:

* a registered name, `"trajectory"`;
* a mapping as in a manifest, `{"name": "trajectory", "weight": 0.5, "amount": "exact"}`;
* an object, `TrajectoryReward(amount="exact")`, or a class, which takes its default options;
* a function in TRL's convention (see `worldr1_core.reward_function.FunctionReward`);
* a pair of one of these and a weight, `("trajectory", 0.5)`.
"""

FORMS = "a registered name, a mapping with 'name', a Reward class or object, a function, or a pair (reward, weight)"


@dataclass(frozen=True, slots=True)
class RewardChoice:
    """A chosen reward.

    Attributes:
        name: Key in results.
        weight: Factor in the total.
        source: The spec to build it from, its class, or the reward itself.
    """

    name: str
    weight: float
    source: RewardSpec | type[Reward] | Reward


def choose_rewards(
    rewards: RewardLike | Iterable[RewardLike], specs: Sequence[RewardSpec], registry: Registry
) -> list[RewardChoice]:
    """Bring rewards of any form into one.

    Args:
        rewards: One or several; a name that stands twice counts once.
        specs: The rewards of a manifest; a name that is among them takes its options and weight from there, others
            take their defaults and weight 1.
        registry: Where names are looked up.

    Raises:
        UnknownNameError: A name is not registered.
        UserError: Something is no reward, a weight is no number of at least 0, or two rewards share a name.
    """
    known = {spec.name: spec for spec in specs}
    chosen: dict[str, RewardChoice] = {}
    seen: dict[str, RewardLike] = {}
    for item in _as_sequence(rewards):
        choice = _choose(item, known, registry)
        if choice.name in chosen:
            if isinstance(item, str) and item == seen[choice.name]:
                continue
            raise UserError(
                f"Two rewards are called {choice.name!r}: {shorten(seen[choice.name])} and {shorten(item)}. Keep one "
                "of them, or register the other under a name of its own (worldr1_core.register)."
            )
        if choice.name in RESERVED["reward"]:
            raise UserError(
                f"A reward cannot be called {choice.name!r}, which has another meaning in results. Rename "
                f"{shorten(item)}."
            )
        chosen[choice.name], seen[choice.name] = choice, item
    return list(chosen.values())


def reward_name(component: type[Reward], registry: Registry) -> str:
    """Name of a reward class: the one it is registered under, else `"mean-brightness"` for `MeanBrightnessReward`."""
    for entry in registry.entries():
        if entry.kind == "reward" and _is_class_of(entry.target, component):
            return entry.name
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", component.__name__).strip("_").lower()
    return words.removesuffix("reward").strip("-_") or words


def _as_sequence(rewards: Any) -> list[Any]:
    if isinstance(rewards, str | Mapping | tuple) or callable(rewards) or isinstance(rewards, Reward):
        is_pair = isinstance(rewards, tuple) and len(rewards) == 2 and isinstance(rewards[1], int | float)
        return list(rewards) if isinstance(rewards, tuple) and not is_pair else [rewards]
    if not isinstance(rewards, Iterable):
        raise UserError(f"rewards must be a list of rewards, received {shorten(rewards)}. Each one is {FORMS}.")
    return list(rewards)


def _choose(item: Any, known: Mapping[str, RewardSpec], registry: Registry) -> RewardChoice:
    weight: float | None = None
    if isinstance(item, tuple):
        if len(item) != 2 or isinstance(item[0], tuple):
            raise UserError(f"A pair is (reward, weight), received {shorten(item)}.")
        item, weight = item
        _check_weight(weight, item)
    choice = _without_weight(item, known, registry)
    return choice if weight is None else RewardChoice(choice.name, float(weight), choice.source)


def _without_weight(item: Any, known: Mapping[str, RewardSpec], registry: Registry) -> RewardChoice:
    if isinstance(item, str | Mapping | RewardSpec):
        spec = _spec(item, known, registry)
        return RewardChoice(spec.name, spec.weight, spec)
    if isinstance(item, FunctionReward):
        return RewardChoice(item.name, 1.0, item)
    if isinstance(item, Reward):
        return RewardChoice(reward_name(type(item), registry), 1.0, item)
    if isinstance(item, type):
        if not issubclass(item, Reward) or inspect.isabstract(item):
            raise UserError(
                f"{item!r} is no reward class that can be set up. Derive it from worldr1_core.Reward and implement "
                "`score`, or pass an object or function instead of the class."
            )
        return RewardChoice(reward_name(item, registry), 1.0, item)
    if callable(item) and not _is_network(item):
        reward = FunctionReward(item)
        return RewardChoice(reward.name, 1.0, reward)
    raise UserError(f"A reward cannot be made from {shorten(item)}. Give {FORMS}.")


def _spec(
    item: str | Mapping[str, Any] | RewardSpec, known: Mapping[str, RewardSpec], registry: Registry
) -> RewardSpec:
    if isinstance(item, str):
        name = registry.find("reward", item).name
        return known[name] if name in known else RewardSpec.model_validate({"name": name})
    return item if isinstance(item, RewardSpec) else component_spec(item, "reward", registry, RewardSpec)


def _check_weight(weight: Any, item: Any) -> None:
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not 0 <= weight < float("inf"):
        raise UserError(
            f"The weight of {shorten(item)} must be a finite number of at least 0, received {shorten(weight)}. "
            "0 reports a score that the total leaves out."
        )


def _is_class_of(target: str, component: type[Reward]) -> bool:
    return target == f"{component.__module__}:{component.__qualname__}"


def _is_network(item: Any) -> bool:
    """Return True for a torch module: TRL passes token ids of texts to modules, and videos have none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(item, torch.nn.Module)
