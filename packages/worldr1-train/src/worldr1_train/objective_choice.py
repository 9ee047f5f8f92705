"""Conversion of names, mappings, classes and objects to objectives with weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worldr1_core.component_specs import component_spec
from worldr1_core.compose import build
from worldr1_core.errors import UserError, WorldR1Error, shorten
from worldr1_core.generation_components import choose_component
from worldr1_core.manifest import ComponentSpec
from worldr1_core.objective import Objective
from worldr1_core.plugins import installed
from worldr1_core.registry import Registry
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.objectives.flow_grpo import FlowGRPOObjective
from worldr1_train.options import OPTIONS
from worldr1_train.section import ObjectiveSection, ObjectiveSpec

ObjectiveLike = str | Mapping[str, Any] | ObjectiveSpec | Objective | type[Objective] | tuple[Any, float]
"""An objective: a registered name, a mapping with `name`, `weight` and options, a class, an object, or a pair of one of
these and a weight."""

ObjectivesLike = ObjectiveLike | Iterable[ObjectiveLike] | ObjectiveSection


@dataclass(frozen=True, slots=True)
class ObjectiveChoice:
    """An objective with its factor in the loss, and its name."""

    objective: Objective
    weight: float

    @property
    def name(self) -> str:
        """Its registered name, or the name of its class."""
        return objective_name(self.objective)


def choose_objectives(
    given: ObjectivesLike | None, args: FlowGRPOConfig, registry: Registry, device: str
) -> list[ObjectiveChoice]:
    """Convert objectives of any form to a list of `ObjectiveChoice`.

    Args:
        given: One or several objectives; `None` for Flow-GRPO with the options of `args`.
        args: Training arguments.
        registry: Where names are looked up.
        device: Torch device.

    Raises:
        UserError: A value is not an objective, or its options or weight are out of range.
    """
    if given is None or isinstance(given, ObjectiveSection):  # `args` has the options of the section
        return [ObjectiveChoice(default_objective(args, device), 1.0)]
    is_pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], int | float)
    single = is_pair or isinstance(given, str | Mapping | ComponentSpec | Objective | type)
    single = single or not isinstance(given, Iterable)
    items = [given] if single else list(given)  # type: ignore[arg-type]
    if not items:
        raise UserError("objective is an empty list. Give at least one objective, or leave it out for flow-grpo.")
    return [_choose(item, registry, device) for item in items]


def default_objective(args: FlowGRPOConfig, device: str = "cpu") -> FlowGRPOObjective:
    """Flow-GRPO with the options of the training arguments."""
    aggregation = {value: word for word, value in (OPTIONS["multi_objective_aggregation"].values or {}).items()}
    return FlowGRPOObjective(
        clip=args.epsilon,
        clip_high=args.epsilon_high,
        kl=args.beta,
        advantage_clip=args.advantage_clip,
        aggregation=aggregation[args.multi_objective_aggregation],
        credit=args.credit,
        ratio_normalisation=args.ratio_normalisation,
        rectification=args.rectification,
        device=device,
    )


def objective_name(objective: Objective) -> str:
    """Return the name under which the class of an objective is registered, or the name of the class."""
    registry = installed().registry
    for name in registry.names("objective"):
        with contextlib.suppress(WorldR1Error):  # another plugin that cannot be imported
            if registry.load("objective", name) is type(objective):
                return name
    return type(objective).__name__


def _choose(item: Any, registry: Registry, device: str) -> ObjectiveChoice:
    weight: float | None = None
    if isinstance(item, tuple):
        if len(item) != 2:
            raise UserError(f"An objective given as a tuple must be (objective, weight), received {shorten(item)}.")
        item, weight = item
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < float("inf"):
            raise UserError(f"The weight of an objective must be a finite number above 0, received {shorten(weight)}.")
    if isinstance(item, str | Mapping | ComponentSpec):
        spec = component_spec(item, "objective", registry, ObjectiveSpec)
        objective = build(spec, "objective", Objective, registry, device)
        return ObjectiveChoice(objective, spec.weight if weight is None else float(weight))
    objective = choose_component(item, "objective", Objective, registry, device)
    return ObjectiveChoice(objective, 1.0 if weight is None else float(weight))
