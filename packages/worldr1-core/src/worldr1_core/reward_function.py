"""Functions as rewards, in the convention of TRL's trainers: `f(prompts=…, completions=…, **kwargs)`."""

from __future__ import annotations

import functools
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worldr1_core.background_loop import run_async
from worldr1_core.errors import PluginError, ScoreNotApplicable, ScoreUnavailable, shorten
from worldr1_core.reward import BatchReward, RewardInputs, Score, as_number

if TYPE_CHECKING:
    from worldr1_core.clip import Clip

KEYWORDS = ("prompts", "completions", "clips", "trainer_state", "log_extra", "log_metric")
"""Keyword arguments that a reward function may take."""


class FunctionReward(BatchReward):
    """A function in TRL's convention as a reward.

    The function is called with the keyword arguments below; those that its signature does not take are left out.

    | keyword | holds |
    |---|---|
    | `prompts` | the prompts, `list[str]` |
    | `completions` | the videos, a list of tensors `(T, 3, H, W)`, float32 RGB in [0, 1] |
    | `clips` | the same as `Clip` objects, with commanded path and intrinsics |
    | `trainer_state` | `None` |
    | `log_extra` | `log_extra(column, values)`: one value per video, kept in the details of its score |
    | `log_metric` | `log_metric(name, value)`: one number, kept in the details of every score of the call |

    It returns one finite number per video, or `None` where it does not apply. It may be asynchronous.

    Args:
        function: Function, `functools.partial` or object with a `__call__`.
        name: Name of the reward; by default that of the function.
        device: Kept as an attribute; functions choose their own device.

    Raises:
        PluginError: It does not take `completions`, or requires a keyword argument that does not exist here.

    Example:
        >>> import torch
        >>> from worldr1_core import Clip, RewardInputs, Video
        >>> def brightness(completions, **kwargs):
        ...     return [float(frames.mean()) for frames in completions]
        >>> FunctionReward(brightness).score(Clip(Video(torch.full((2, 3, 8, 8), 0.25))), RewardInputs()).value
        0.25
    """

    def __init__(self, function: Callable[..., Any], *, name: str | None = None, device: str = "cpu") -> None:
        super().__init__(device=device)
        self.function = function
        self.name = callable_name(function) if name is None else name
        self._accepted = _accepted_keywords(function, self.name)

    def score_batch(self, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> list[Score | float | Exception]:
        """Call the function once for all clips.

        Raises:
            PluginError: It returns no list, or one of another length.
        """
        extra, metrics = _ExtraColumns(self.name, len(clips)), _Metrics(self.name)
        given = {
            "prompts": [clip.prompt for clip in clips],
            "completions": [clip.video.frames for clip in clips],
            "clips": list(clips),
            "trainer_state": None,
            "log_extra": extra.log,
            "log_metric": metrics.log,
        }
        answer = self.function(**{key: value for key, value in given.items() if key in self._accepted})
        if inspect.isawaitable(answer):
            answer = run_async(_awaited(answer))
        values = _as_list(answer, self.name, len(clips))
        return [
            _to_answer(value, self.name, {**metrics.values, **extra.of(index)}) for index, value in enumerate(values)
        ]


def callable_name(function: Callable[..., Any]) -> str:
    """Name under which TRL logs a callable: `__name__`, that of the wrapped function, or that of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def function_reward_class(function: Callable[..., Any], name: str) -> type[FunctionReward]:
    """A reward class for a function that is registered under a name.

    Raises:
        PluginError: See `FunctionReward`.
    """
    _accepted_keywords(function, name)

    class RegisteredFunction(FunctionReward):
        __doc__ = inspect.getdoc(function) or f"The reward function {name!r}."

        def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
            self._validate(options if config is None else config.model_dump())
            super().__init__(function, name=name, device=device)

    RegisteredFunction.__qualname__ = RegisteredFunction.__name__ = callable_name(function)
    RegisteredFunction.__module__ = str(getattr(function, "__module__", __name__))
    return RegisteredFunction


class _ExtraColumns:
    """Values that a function passes to `log_extra`, per video."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._columns: dict[str, list[Any]] = {}

    def log(self, column: str, values: Iterable[Any]) -> None:
        kept = list(values)
        if len(kept) != self._count:
            raise PluginError(
                f"Reward function {self._name!r} called log_extra({column!r}, …) with {len(kept)} values for "
                f"{self._count} videos. Pass one value per video."
            )
        self._columns[str(column)] = kept

    def of(self, index: int) -> dict[str, Any]:
        return {column: values[index] for column, values in self._columns.items()}


class _Metrics:
    """The means of what a function passes to `log_metric`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: defaultdict[str, list[float]] = defaultdict(list)

    def log(self, name: str, value: Any) -> None:
        number = as_number(value)
        if number is None:
            raise PluginError(
                f"Reward function {self._name!r} called log_metric({name!r}, {shorten(value)}). Pass one number."
            )
        self._values[str(name)].append(number)

    @property
    def values(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in self._values.items()}


def _accepted_keywords(function: Callable[..., Any], name: str) -> frozenset[str]:
    """Those of `KEYWORDS` that a function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise PluginError(f"Reward function {name!r} has no signature that can be read: {error}.") from error
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if "completions" not in named and not takes_any:
        raise PluginError(
            f"Reward function {name!r} must take the keyword argument 'completions', received the signature "
            f"{inspect.signature(function)}. Write `def {name}(completions, **kwargs): ...` and return one number per "
            "video, or derive a class from worldr1_core.Reward."
        )
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    missing = [key for key in required if key not in KEYWORDS or key not in named]
    if missing:
        raise PluginError(
            f"Reward function {name!r} requires {missing}, which videos do not have. Allowed: {list(KEYWORDS)}. "
            "Give the parameter a default, or bind it with functools.partial."
        )
    return frozenset(KEYWORDS) if takes_any else frozenset(KEYWORDS) & named.keys()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _as_list(answer: Any, name: str, count: int) -> list[Any]:
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable) or _is_scalar(answer):
        raise PluginError(
            f"Reward function {name!r} must return a list with one number or None per video, received "
            f"{shorten(answer)}."
        )
    values = list(answer)
    if len(values) != count:
        raise PluginError(
            f"Reward function {name!r} returned {len(values)} scores for {count} videos. "
            "Return one number per video, in order, and None where it does not apply."
        )
    return values


def _is_scalar(answer: Any) -> bool:
    return getattr(answer, "shape", None) == ()


def _to_answer(value: Any, name: str, details: dict[str, Any]) -> Score | Exception:
    if value is None:
        return ScoreNotApplicable(f"the reward function {name!r} returned None: it does not apply to this clip")
    number = as_number(value)
    if number is None or not math.isfinite(number):
        return ScoreUnavailable(
            f"the reward function {name!r} returned {shorten(value)}; a score is a finite number, or None"
        )
    return Score(number, details=details)
