"""The interface of placements: rewards and judges that run elsewhere, in a worker process or behind an endpoint.

A manifest places rewards, the reconstructor and the judge. Rewards that read a reconstruction run where the
reconstructor runs, so that neither depth nor renders leave that process; clips go there, scores come back. A judge that
is placed has a process of its own, which all rewards ask, wherever they run.
"""

from __future__ import annotations

import abc
import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from worldr1_core.component import Component
from worldr1_core.errors import PluginError, ScoreNotApplicable, ScoreUnavailable, UserError, describe_exception
from worldr1_core.log import get_logger
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score

if TYPE_CHECKING:
    from worldr1_core.clip import Clip
    from worldr1_core.judge import Judge
    from worldr1_core.manifest import ComponentSpec, RewardSpec
    from worldr1_core.registry import Registry

log = get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """Scores of one clip by rewards that run elsewhere.

    Attributes:
        scores: Reward name -> score.
        timings: Step -> seconds, as measured where the rewards run.
    """

    scores: Mapping[str, Score]
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPart:
    """Part of a composition that runs in one place.

    Attributes:
        rewards: Its rewards, with their options.
        reconstructor: Reconstructor that they read, or `None`.
        judge: Judge that they ask, or `None`.
        reach_judge: Makes the judge ready in its own place, and returns the placement by which processes of this
            machine reach it; `None` if the judge runs beside the rewards.
        seed: Seed of the manifest.
        device: Torch device of the composition, for placements that have no device of their own.
        registry: Where names are looked up.
    """

    rewards: Sequence[RewardSpec]
    reconstructor: ComponentSpec | None
    judge: ComponentSpec | None
    seed: int
    device: str
    registry: Registry
    reach_judge: Callable[[], ComponentSpec] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePart:
    """The judge of a composition, to run in a place of its own.

    Attributes:
        judge: The judge, with its options.
        seed: Seed of the manifest.
        device: Torch device of the composition, for placements that have no device of their own.
        registry: Where names are looked up.
    """

    judge: ComponentSpec
    seed: int
    device: str
    registry: Registry


@dataclass(frozen=True, slots=True)
class ConnectedJudge:
    """A judge that runs elsewhere.

    Attributes:
        judge: Asks it.
        address: Placement by which other processes of this machine reach it.
    """

    judge: Judge
    address: ComponentSpec


class RemoteScorer(abc.ABC):
    """Scores clips with rewards that run elsewhere."""

    @abc.abstractmethod
    def score(self, clips: Sequence[Clip], rewards: Sequence[str], *, with_reference: bool) -> list[ScoredClip]:
        """Score clips; called from several threads.

        Args:
            clips: At least one.
            rewards: Names of some of the rewards.
            with_reference: Whether one of the rewards reads the clips' references.

        Returns:
            One entry per clip, in order, with a score of every reward.

        Raises:
            UserError: The rewards cannot work for any clip.
            ScoreUnavailable: There are no scores of these clips; the message is the reason.
        """


class Placement(Component, abc.ABC):
    """A place in which rewards and judges run. Its options stand under `placement:` in the manifest."""

    @classmethod
    def resources(cls) -> list[dict[str, Any]]:
        """What such places keep on this machine between runs, such as environments: rows for `worldr1 doctor`."""
        return []

    def examine(self) -> list[dict[str, Any]]:
        """State of this place: rows for `worldr1 doctor MANIFEST`, with a `problem` where there is one.

        A place that cannot be reached is such a problem, and no error.
        """
        return []

    @abc.abstractmethod
    def connect(self, part: PlacedPart) -> RemoteScorer:
        """Make rewards ready in this place; returns when clips can be scored.

        Raises:
            UserError: They cannot run there.
        """

    def connect_judge(self, part: JudgePart) -> ConnectedJudge:
        """Make a judge ready in this place; returns when it can be asked.

        Raises:
            UserError: It cannot run there.
        """
        raise UserError(f"Placement {type(self).__name__} has no place for a judge. Remove `placement` from `judge:`.")


class PlacedReward(Reward):
    """A reward that runs elsewhere. It has no gradient.

    Args:
        name: Its name there.
        reads_reference: Whether it reads the clips' references.
        scorer: Scores with it; shared by all rewards that run in the same place.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset()

    def __init__(self, name: str, *, reads_reference: bool, scorer: RemoteScorer) -> None:
        super().__init__()
        self.name, self.scorer = name, scorer
        if reads_reference:
            self.requires = frozenset({Requirement.REFERENCE})  # type: ignore[misc]  # of this object

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip; `inputs` stay here."""
        (score,) = self.score_batch([clip], [inputs])
        return score

    def score_batch(self, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> list[Score]:  # type: ignore[override]
        """Score many clips; failures are scores with a reason."""
        return [scored.scores[self.name] for scored in score_placed(self.scorer, clips, [self])]


def score_placed(scorer: RemoteScorer, clips: Sequence[Clip], rewards: Sequence[PlacedReward]) -> list[ScoredClip]:
    """Score clips with rewards that run in one place; what fails has the reason as its score.

    Raises:
        UserError: The rewards cannot work for any clip.
        PluginError: The scorer broke its contract.
    """
    names = [reward.name for reward in rewards]
    with_reference = any(Requirement.REFERENCE in reward.requires for reward in rewards)
    try:
        scored = scorer.score(clips, names, with_reference=with_reference)
    except UserError:
        raise
    except ScoreUnavailable as error:
        return _missing(str(error), len(clips), names, applicable=not isinstance(error, ScoreNotApplicable))
    except Exception as error:  # noqa: BLE001 - becomes the reason of the scores, and is logged
        log.warning("rewards that run elsewhere failed", rewards=names, reason=describe_exception(error))
        return _missing(describe_exception(error), len(clips), names)
    if len(scored) != len(clips) or any(own.scores.keys() != set(names) for own in scored):
        raise PluginError(
            f"{type(scorer).__name__} must return scores of {names} for each of {len(clips)} clips, received "
            f"{[sorted(own.scores) for own in scored][:3]}."
        )
    return scored


def _missing(reason: str, count: int, names: Sequence[str], *, applicable: bool = True) -> list[ScoredClip]:
    return [ScoredClip({name: Score.unavailable(reason, applicable=applicable) for name in names})] * count


def start_placed(rewards: Sequence[Reward], clips: Sequence[Clip]) -> list[Future[list[ScoredClip]]]:
    """Begin to score clips elsewhere, while the caller scores them here.

    Args:
        rewards: Rewards, of which those that are `PlacedReward` are used.
        clips: Clips.

    Returns:
        Per place, the future scores.
    """
    groups: dict[int, list[PlacedReward]] = {}
    for reward in rewards:
        if isinstance(reward, PlacedReward):
            groups.setdefault(id(reward.scorer), []).append(reward)
    return [_in_thread(score_placed, own[0].scorer, clips, own) for own in groups.values()]


def _in_thread(function: Callable[..., T], *args: Any) -> Future[T]:
    """Call a function in a thread that does not keep the process from ending, as those of an executor do."""
    future: Future[T] = Future()

    context = contextvars.copy_context()  # ids of log lines, and the span

    def run() -> None:
        try:
            future.set_result(context.run(function, *args))
        except BaseException as error:  # noqa: BLE001 - raised by `Future.result`
            future.set_exception(error)

    threading.Thread(target=run, name="placed rewards", daemon=True).start()
    return future
