"""Where the window of stochastic steps stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldr1_core.errors import UserError
from worldr1_core.seeding import derive_seed

if TYPE_CHECKING:
    from worldr1_core.sampler import SamplerConfig


def choose_window(config: SamplerConfig, seed: int, block: int) -> tuple[int, int]:
    """Stochastic steps `[begin, end)` of a block (Flow-GRPO-Fast: paper, section 3).

    Args:
        config: Length, position rule and bounds.
        seed: Seed of the run.
        block: Number of the block of rollouts, from 0.

    Raises:
        UserError: The window does not fit into the schedule.
    """
    steps, length = config.num_inference_steps, config.window
    if length == 0:
        return 0, 0
    stop = config.window_stop if config.window_stop is not None else max(config.window_start + 1, steps // 2)
    stop = min(stop, steps - length + 1)
    if config.window_start >= stop:
        raise UserError(
            f"A window of {length} steps cannot begin at or after step {config.window_start} and before step "
            f"{config.window_stop!r} of {steps}. Lower window or window_start, or raise num_inference_steps."
        )
    choices = stop - config.window_start
    offset = {
        "fixed": 0,
        "random": derive_seed(seed, "window", block) % choices,
        "sliding": block % choices,
    }[config.window_position]
    begin = config.window_start + offset
    return begin, begin + length
