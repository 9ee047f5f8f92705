"""Which rewards a server has, with their options, so that a client never takes scores of other options for its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from worldr1_core.component import load_component, validate_document
from worldr1_core.manifest import ComponentSpec, RewardSpec
from worldr1_core.registry import Registry
from worldr1_core.reward import Requirement, Reward


class ComponentOptions(BaseModel):
    """A component with every option, defaults included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: dict[str, Any]


class Composition(BaseModel):
    """Rewards and what they read. Weights are not part of it: totals are computed by the client.

    Attributes:
        rewards: Reward name -> its options.
        reads: Reward name -> inputs that it requires.
        reconstructor: Reconstructor, if a reward reads a reconstruction.
        judge: Judge, if a reward asks one, or the judge itself is served.
        grades: Whether the judge itself is served.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rewards: dict[str, dict[str, Any]]
    reads: dict[str, list[str]]
    reconstructor: ComponentOptions | None = None
    judge: ComponentOptions | None = None
    grades: bool = False

    @property
    def digest(self) -> str:
        """Digest that changes with every option."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def differences(self, served: Composition) -> list[str]:
        """What a server has otherwise than this composition needs it, one sentence each; empty if nothing."""
        found = []
        if self.grades and not served.grades:
            found.append("it does not serve its judge, which `worldr1 serve --judge` does")
        for name, options in self.rewards.items():
            if name not in served.rewards:
                found.append(f"it does not serve the reward {name!r}, only {sorted(served.rewards)}")
            else:
                found += _option_differences(f"reward {name!r}", options, served.rewards[name])
        for kind in ("reconstructor", "judge"):
            own, other = getattr(self, kind), getattr(served, kind)
            if own is None:
                continue
            if other is None or other.name != own.name:
                found.append(f"its {kind} is {None if other is None else other.name!r} instead of {own.name!r}")
            else:
                found += _option_differences(f"{kind} {own.name!r}", own.options, other.options)
        return found


class CompositionAnswer(BaseModel):
    """What a server serves.

    Attributes:
        digest: Digest that a request can ask for.
        composition: Rewards, reconstructor and judge with all options.
        versions: Versions in the environment of the workers.
        max_requests: Requests that the server admits at once; `None` if it does not say.
    """

    digest: str
    composition: Composition
    versions: dict[str, str]
    max_requests: Annotated[int, Field(ge=1)] | None = None


def describe_composition(
    rewards: Sequence[RewardSpec],
    reconstructor: ComponentSpec | None,
    judge: ComponentSpec | None,
    registry: Registry,
    *,
    with_judge: bool = False,
) -> Composition:
    """Describe rewards and what they read.

    Args:
        rewards: The rewards.
        reconstructor: Reconstructor of the manifest; left out if no reward reads it.
        judge: Judge of the manifest; left out if no reward asks it, unless `with_judge`.
        registry: Where names are looked up.
        with_judge: The judge itself is served.

    Raises:
        UserError: A component cannot be loaded.
    """
    reads: dict[str, list[str]] = {}
    for spec in rewards:
        component: Any = load_component(registry, "reward", spec.name)
        assert issubclass(component, Reward)
        reads[spec.name] = sorted(str(part) for part in component.requires)
    needed = {part for parts in reads.values() for part in parts}
    parts = {
        "reconstructor": reconstructor if Requirement.RECONSTRUCTION in needed else None,
        "judge": judge if with_judge or Requirement.JUDGE in needed else None,
    }
    return Composition(
        rewards={spec.name: _options(spec, "reward", registry) for spec in rewards},
        reads=reads,
        grades=with_judge,
        **{
            kind: None if spec is None else ComponentOptions(name=spec.name, options=_options(spec, kind, registry))
            for kind, spec in parts.items()
        },
    )


def _options(spec: ComponentSpec, kind: str, registry: Registry) -> dict[str, Any]:
    config = load_component(registry, kind, spec.name).Config
    return validate_document(config, spec.options).model_dump(mode="json")


def _option_differences(label: str, own: dict[str, Any], served: dict[str, Any]) -> list[str]:
    keys = [
        key for key in sorted({*own, *served}) if own.get(key) != served.get(key) or (key in own) != (key in served)
    ]
    return [f"{key!r} of its {label} is {served.get(key)!r} instead of {own.get(key)!r}" for key in keys]
