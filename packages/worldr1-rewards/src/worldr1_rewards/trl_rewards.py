"""Rewards for TRL's trainers: any reward, or a whole composition, as a function in TRL's convention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from worldr1_core.errors import UserError, shorten
from worldr1_rewards.scoring import Scorer

if TYPE_CHECKING:
    from worldr1_core.reward_choice import RewardLike
    from worldr1_core.scoring import ClipScores

COLUMNS = ("trajectory", "intrinsics")
"""Columns of a data set that are used where they exist."""


class TRLReward:
    """A callable `f(prompts=…, completions=…, **columns)` that returns one float or `None` per completion.

    `None` stands for a missing score; TRL leaves it out. The reasons go to `log_extra`, where TRL passes it,
    in the column `<name>_reason`.

    Attributes:
        __name__: Under which TRL logs it.
        scorer: The scorer behind it.
    """

    def __init__(self, scorer: Scorer, name: str, *, batch_size: int = 1) -> None:
        self.scorer = scorer
        self.__name__ = name
        self.batch_size = batch_size

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[Any], log_extra: Any = None, **columns: Any
    ) -> list[float | None]:
        """Score completions.

        Args:
            prompts: Plain texts, one per completion.
            completions: Videos, in any form that `Scorer` takes.
            log_extra: TRL's function for further columns.
            **columns: Columns of the data set; `trajectory` and `intrinsics` are used, others ignored.

        Raises:
            UserError: A prompt is no plain text, or a completion is no video.
        """
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise UserError(
                    f"{self.__name__}: prompts must be plain text, received {shorten(prompt)}. Conversations are not "
                    "supported: give the data set a text column 'prompt'."
                )
        used = {key: columns[key] for key in COLUMNS if columns.get(key) is not None}
        results = self.scorer.score(list(completions), list(prompts), **used, batch_size=self.batch_size)
        answers = [self._answer(result) for result in results]
        if log_extra is not None and any(reason for _, reason in answers):
            log_extra(f"{self.__name__}_reason", [reason for _, reason in answers])
        return [value for value, _ in answers]

    def _answer(self, result: ClipScores) -> tuple[float | None, str | None]:
        if len(result.scores) == 1:  # a reward alone counts as it is, whatever its weight
            ((name, score),) = result.scores.items()
            value, reason = score.value, result.reasons.get(name)
        else:
            value, reason = result.total, result.reasons.get("total")
        return (None, reason) if math.isnan(value) else (value, None)


def as_trl_reward(
    reward: RewardLike | Scorer, *, name: str | None = None, batch_size: int = 1, **options: Any
) -> TRLReward:
    """Make a reward function for TRL's trainers from a reward.

    Args:
        reward: A reward in any form that `Scorer` accepts, or a `Scorer`, whose total is returned.
        name: Name in TRL's logs; by default the name of the reward, or `"total"`.
        batch_size: Videos scored together.
        **options: Further arguments of `Scorer`.

    Returns:
        A callable with a `__name__`.

    Example:
        >>> reward = as_trl_reward("trajectory")
        >>> reward.__name__
        'trajectory'
        >>> [value] = reward(prompts=["Camera push in. A room with boxes."], completions=["examples/clips/push_in.mp4"])
        >>> round(value, 1)
        0.9
    """
    if isinstance(reward, Scorer):
        if options:
            raise UserError(f"A Scorer is set up already, received {sorted(options)} too. Pass them to Scorer.")
        scorer = reward
    else:
        scorer = Scorer([reward], **options)
    names = [weighted.name for weighted in scorer.components.rewards]
    return TRLReward(scorer, name or (names[0] if len(names) == 1 else "total"), batch_size=batch_size)
