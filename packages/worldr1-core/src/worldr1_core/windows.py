"""Where the window of stochastic steps stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldr1_core.errors import UserError
from worldr1_core.seeding import derive_seed

if TYPE_CHECKING:
    from worldr1_core.sampler import SamplerConfig


def choose_window(config: SamplerConfig, seed: int, rollout_batch: int, *, last_step: bool = True) -> tuple[int, int]:
    """Stochastic steps `[begin, end)` of a rollout batch (Flow-GRPO-Fast: paper, section 3).

    Args:
        config: Length, position rule and bounds.
        seed: Seed of the run.
        rollout_batch: Number of the rollout batch, from 0.
        last_step: Whether the window may hold the last step of the schedule.

    Raises:
        UserError: The window does not fit into the schedule.
    """
    steps, length = config.num_inference_steps, config.window
    if length == 0:
        return 0, 0
    stop = config.window_stop if config.window_stop is not None else max(config.window_start + 1, steps // 2)
    usable = steps if last_step else steps - 1
    stop = min(stop, usable - length + 1)
    if config.window_start >= stop:
        bound = "" if config.window_stop is None else f" and before step {config.window_stop}"
        last = "" if last_step else ", the last of which is deterministic"
        raise UserError(
            f"A window of {length} steps cannot begin at or after step {config.window_start}{bound} in a schedule of "
            f"{steps} steps{last}. Lower window or window_start, or raise num_inference_steps or window_stop."
        )
    choices = stop - config.window_start
    offset = {
        "fixed": 0,
        "random": derive_seed(seed, "window", rollout_batch) % choices,
        "sliding": rollout_batch % choices,
    }[config.window_position]
    begin = config.window_start + offset
    return begin, begin + length
