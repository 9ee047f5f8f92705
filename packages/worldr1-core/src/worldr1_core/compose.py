"""Manifest to objects: components are imported, configured and put on a device."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from worldr1_core.component import Component, load_component
from worldr1_core.errors import ManifestError, PluginError, UserError, WorldR1Error, describe_exception, shorten
from worldr1_core.judge import Judge
from worldr1_core.manifest import ComponentSpec, Manifest, RewardSpec
from worldr1_core.placed_rewards import PlacedJudge, SharedParts, place_judge, place_rewards
from worldr1_core.placement import Placement
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.registry import Registry
from worldr1_core.reward import Requirement, Reward
from worldr1_core.reward_choice import RewardChoice, RewardLike, choose_rewards

C = TypeVar("C", bound=Component)


@dataclass(frozen=True, slots=True)
class WeightedReward:
    """A reward under its name, with its factor in the total."""

    name: str
    weight: float
    reward: Reward


@dataclass(frozen=True, slots=True)
class ScoringComponents:
    """Components that score clips."""

    rewards: list[WeightedReward]
    reconstructor: Reconstructor | None
    judge: Judge | None

    @property
    def requires(self) -> frozenset[Requirement]:
        """Union of the inputs that the rewards require."""
        return frozenset(part for reward in self.rewards for part in reward.reward.requires)

    def subset(self, names: Collection[str]) -> ScoringComponents:
        """Return the same objects for some of the rewards, without what none of these requires."""
        chosen = replace(self, rewards=[reward for reward in self.rewards if reward.name in names])
        return replace(
            chosen,
            reconstructor=self.reconstructor if Requirement.RECONSTRUCTION in chosen.requires else None,
            judge=self.judge if Requirement.JUDGE in chosen.requires else None,
        )


def resolve_device(device: str) -> str:
    """Turn `auto` into `cuda` where there is one, else `cpu`; check that another choice is available.

    Raises:
        UserError: CUDA or MPS is asked for and this machine or this torch build has none, or fewer devices.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"Device {device!r} was requested, but torch {torch.__version__} sees no CUDA device. Use `device: cpu`."
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            f"Device {device!r} was requested, but torch {torch.__version__} sees no MPS device. Use `device: cpu`."
        )
    index, count = device.partition(":")[2], torch.cuda.device_count() if device.startswith("cuda") else 0
    if index and int(index) >= count:
        raise UserError(f"Device {device!r} was requested, but torch sees {count}: cuda:0 to cuda:{count - 1}.")
    return device


def build(spec: ComponentSpec, kind: str, interface: type[C], registry: Registry, device: str) -> C:
    """Import and configure one component.

    Args:
        spec: Its name and options.
        kind: Its kind in the registry.
        interface: The class it must derive from.
        registry: Where names are looked up.
        device: Torch device.

    Raises:
        PluginError: The registered class does not implement the interface, or breaks when it is set up.
        UserError: Unknown name, absent extra, or options out of range.
    """
    component = load_component(registry, kind, spec.name)
    owner = registry.find(kind, spec.name).owner
    if not issubclass(component, interface):
        raise PluginError(
            f"{kind.capitalize()} {spec.name!r} of {owner} must be a class derived from "
            f"{interface.__module__}.{interface.__name__}, received {component!r}."
        )
    try:
        return component(**spec.options, device=device)
    except WorldR1Error:
        raise
    except Exception as error:
        raise PluginError(
            f"{kind.capitalize()} {spec.name!r} of {owner} cannot be set up: {describe_exception(error)}."
        ) from error


def compose_scoring(
    manifest: Manifest,
    registry: Registry,
    *,
    only: RewardLike | Iterable[RewardLike] | None = None,
    reconstructor: str | Reconstructor | None = None,
    judge: str | Judge | None = None,
    device: str | None = None,
) -> ScoringComponents:
    """Build the rewards of a manifest and what they require.

    Args:
        manifest: What to compose.
        registry: Where names are looked up.
        only: Rewards to use, in this order (see `worldr1_core.reward_choice.RewardLike`). A name takes its options and
            weight from the manifest, or its defaults and weight 1 if the manifest does not list it.
        reconstructor: Name or object, instead of the manifest's.
        judge: Name or object, instead of the manifest's.
        device: Torch device instead of the manifest's, for what is built here.

    Raises:
        ManifestError: There is no reward, or a reward requires a component that the manifest does not name.
        UserError: A reward or another component is not available.
    """
    chosen = choose_rewards(manifest.rewards if only is None else only, manifest.rewards, registry)
    if not chosen:
        raise ManifestError(
            "No reward to score with. Name at least one under `rewards:`, e.g. `- {name: reconstruction}`."
        )
    device = resolve_device(manifest.device if device is None else device)
    shared = SharedParts(
        reconstructor=manifest.reconstructor if reconstructor is None else reconstructor,
        judge=manifest.judge if judge is None else judge,
        seed=manifest.seed,
        device=device,
        registry=registry,
    )

    def connect(spec: ComponentSpec) -> Placement:
        return build(spec, "placement", Placement, registry, device)

    judge_elsewhere = place_judge(shared, connect)
    placed = place_rewards(chosen, shared, judge_elsewhere, connect)
    rewards = [
        WeightedReward(c.name, c.weight, placed.get(c.name) or _build_reward(c, registry, device)) for c in chosen
    ]
    readers = {part: [r.name for r in rewards if part in r.reward.requires] for part in Requirement}
    return ScoringComponents(
        rewards=rewards,
        reconstructor=_build_required(
            shared.reconstructor, Reconstructor, readers[Requirement.RECONSTRUCTION], registry, device
        ),
        judge=_build_judge(shared.judge, judge_elsewhere, readers[Requirement.JUDGE], registry, device),
    )


def _build_reward(choice: RewardChoice, registry: Registry, device: str) -> Reward:
    source = choice.source
    if isinstance(source, RewardSpec):
        return build(source, "reward", Reward, registry, device)
    return source(device=device) if isinstance(source, type) else source


def _build_judge(
    source: ComponentSpec | str | Judge | None,
    elsewhere: PlacedJudge | None,
    readers: list[str],
    registry: Registry,
    device: str,
) -> Judge | None:
    if readers and elsewhere is not None:
        return elsewhere.connected().judge
    return _build_required(source, Judge, readers, registry, device)


def _build_required(
    source: ComponentSpec | str | C | None, interface: type[C], readers: list[str], registry: Registry, device: str
) -> C | None:
    if not readers:
        return None
    kind = interface.__name__.lower()
    if source is None:
        raise ManifestError(
            f"Reward {readers[0]!r} requires a {kind}, and the manifest names none. "
            f"Add `{kind}: {{name: …}}`; installed: {registry.names(kind)}."
        )
    if isinstance(source, interface):
        return source
    if isinstance(source, str):
        source = ComponentSpec(name=registry.find(kind, source).name)
    if not isinstance(source, ComponentSpec):
        raise UserError(f"The {kind} must be a registered name or a {interface.__name__}, received {shorten(source)}.")
    return build(source, kind, interface, registry, device)
