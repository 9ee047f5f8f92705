"""Composition of rewards that run elsewhere: what reads a reconstruction stays beside the reconstructor."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from worldr1_core.component import load_component
from worldr1_core.errors import ManifestError, UserError, shorten
from worldr1_core.judge import Judge
from worldr1_core.manifest import ComponentSpec, PlacedSpec, RewardSpec
from worldr1_core.placement import ConnectedJudge, JudgePart, PlacedPart, PlacedReward, Placement
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.registry import Registry
from worldr1_core.reward import Requirement, Reward
from worldr1_core.reward_choice import RewardChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedParts:
    """What the rewards of a composition share.

    Attributes:
        reconstructor: Reconstructor in any form, or `None`.
        judge: Judge in any form, or `None`.
        seed: Seed of the manifest.
        device: Torch device of the composition.
        registry: Where names are looked up.
    """

    reconstructor: ComponentSpec | str | Reconstructor | None
    judge: ComponentSpec | str | Judge | None
    seed: int
    device: str
    registry: Registry

    def spec(self, kind: str) -> ComponentSpec:
        """Spec of the reconstructor or judge, for another process.

        Raises:
            UserError: It is missing, or an object of this process.
        """
        source = self.reconstructor if kind == "reconstructor" else self.judge
        if isinstance(source, str):
            source = ComponentSpec(name=self.registry.find(kind, source).name)
        if isinstance(source, PlacedSpec):
            return ComponentSpec(name=source.name, **source.options)
        if isinstance(source, ComponentSpec):
            return source
        raise UserError(
            f"Rewards that run in another process need a {kind} that the manifest names, received {shorten(source)}."
        )


class PlacedJudge:
    """The judge of a composition that runs elsewhere; it is made ready when it is first needed.

    Args:
        place: Its placement.
        shared: What the rewards of the composition share.
        connect: Creates a placement of its spec.
    """

    def __init__(
        self, place: ComponentSpec, shared: SharedParts, connect: Callable[[ComponentSpec], Placement]
    ) -> None:
        self._place, self._shared, self._connect = place, shared, connect
        self._lock = threading.Lock()
        self._connected: ConnectedJudge | None = None

    def connected(self) -> ConnectedJudge:
        """Return the judge, ready to be asked.

        Raises:
            UserError: It cannot run there.
        """
        with self._lock:
            if self._connected is None:
                shared = self._shared
                part = JudgePart(
                    judge=shared.spec("judge"), seed=shared.seed, device=shared.device, registry=shared.registry
                )
                self._connected = self._connect(self._place).connect_judge(part)
            return self._connected


def place_judge(shared: SharedParts, connect: Callable[[ComponentSpec], Placement]) -> PlacedJudge | None:
    """Return the judge of a composition if it runs elsewhere, and `None` otherwise.

    Args:
        shared: What the rewards of the composition share.
        connect: Creates a placement of its spec.
    """
    place = shared.judge.placement if isinstance(shared.judge, PlacedSpec) else None
    return None if place is None else PlacedJudge(place, shared, connect)


def place_rewards(
    choices: Sequence[RewardChoice],
    shared: SharedParts,
    judge: PlacedJudge | None,
    connect: Callable[[ComponentSpec], Placement],
) -> Mapping[str, PlacedReward]:
    """Make the rewards ready that run elsewhere.

    Args:
        choices: All rewards of the composition.
        shared: What they share.
        judge: Judge that runs elsewhere, or `None`.
        connect: Creates a placement of its spec.

    Returns:
        Reward name -> reward, for those that run elsewhere.

    Raises:
        ManifestError: A reward that reads a reconstruction has another place than the reconstructor.
        UserError: A reward cannot run in its place.
    """
    groups: dict[str, tuple[ComponentSpec, list[RewardSpec]]] = {}
    for choice in choices:
        found = _place(choice, shared)
        if found is not None:
            placement, spec = found
            key = json.dumps(placement.model_dump(mode="json"), sort_keys=True)
            groups.setdefault(key, (placement, []))[1].append(spec)
    if not groups:
        return {}
    with ThreadPoolExecutor(len(groups)) as pool:  # workers load their models at the same time
        placed = list(pool.map(lambda group: _connect(group[0], group[1], shared, judge, connect), groups.values()))
    return {reward.name: reward for rewards in placed for reward in rewards}


def _place(choice: RewardChoice, shared: SharedParts) -> tuple[ComponentSpec, RewardSpec] | None:
    source = choice.source
    requires = _requires(source, shared.registry)
    own = source.placement if isinstance(source, RewardSpec) else None
    if Requirement.RECONSTRUCTION not in requires:
        return None if own is None or not isinstance(source, RewardSpec) else (own, source)
    reconstructor = shared.reconstructor
    place = reconstructor.placement if isinstance(reconstructor, PlacedSpec) else None
    if own is not None and own != place:
        raise ManifestError(
            f"Reward {choice.name!r} reads the reconstruction, so it runs where the reconstructor runs. Move its "
            "`placement` to `reconstructor:`; all rewards that read it follow."
        )
    if place is None:
        return None
    if not isinstance(source, RewardSpec):
        raise UserError(
            f"Reward {choice.name!r} is an object of this process and reads a reconstruction, and the reconstructor "
            "has a `placement`. Register the reward in a plugin and name it, or remove the placement."
        )
    return place, source


def _requires(source: RewardSpec | type[Reward] | Reward, registry: Registry) -> frozenset[Requirement]:
    component = load_component(registry, "reward", source.name) if isinstance(source, RewardSpec) else source
    requires: frozenset[Requirement] = component.requires  # type: ignore[union-attr]
    return requires


def _connect(
    placement: ComponentSpec,
    rewards: Sequence[RewardSpec],
    shared: SharedParts,
    judge: PlacedJudge | None,
    connect: Callable[[ComponentSpec], Placement],
) -> list[PlacedReward]:
    required = {spec.name: _requires(spec, shared.registry) for spec in rewards}
    needs = frozenset(part for parts in required.values() for part in parts)
    part = PlacedPart(
        rewards=[spec.model_copy(update={"placement": None}) for spec in rewards],
        reconstructor=shared.spec("reconstructor") if Requirement.RECONSTRUCTION in needs else None,
        judge=shared.spec("judge") if Requirement.JUDGE in needs else None,
        seed=shared.seed,
        device=shared.device,
        registry=shared.registry,
        reach_judge=None if judge is None or Requirement.JUDGE not in needs else lambda: judge.connected().address,
    )
    scorer = connect(placement).connect(part)
    return [
        PlacedReward(spec.name, reads_reference=Requirement.REFERENCE in required[spec.name], scorer=scorer)
        for spec in rewards
    ]
