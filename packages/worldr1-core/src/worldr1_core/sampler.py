"""The interface of samplers: which steps of the schedule are stochastic, and from what density they are drawn."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from worldr1_core.component import Component, ComponentConfig
from worldr1_core.errors import UserError

if TYPE_CHECKING:  # see worldr1_core.reward
    from worldr1_core.policy import PolicyScheduler


class SamplerConfig(ComponentConfig):
    """Options that every sampler has."""

    num_inference_steps: int = Field(50, ge=1, le=1000, description="Steps of the full schedule.")
    window: int = Field(2, ge=0, le=1000, description="Number of consecutive stochastic steps; 0 for none.")
    window_position: Literal["fixed", "random", "sliding"] = Field(
        "random",
        description="Where the window begins: at `window_start`, drawn anew for every rollout batch from "
        "[window_start, window_stop), or moved on by one step after every rollout batch.",
    )
    window_start: int = Field(0, ge=0, le=999, description="First step at which the window may begin.")
    window_stop: int | None = Field(
        None, ge=1, le=1000, description="The window begins before this step; half of the schedule if left out."
    )


class Sampler(Component, abc.ABC):
    """Makes policy schedulers, and selects the stochastic steps.

    Its `Config` derives from `SamplerConfig`.

    Attributes:
        stochastic_last_step: True if the last step of a schedule can be stochastic; if not, no window includes it.
    """

    Config = SamplerConfig
    config: SamplerConfig
    stochastic_last_step: ClassVar[bool] = True

    @abc.abstractmethod
    def make_scheduler(self, base: Any) -> PolicyScheduler:
        """A policy scheduler for a pipeline.

        Args:
            base: The pipeline's own diffusers scheduler, whose configuration (shift, betas, ...) is kept.

        Raises:
            UserError: The base belongs to another family of models (flow, diffusion).
        """

    def window(self, seed: int, rollout_batch: int) -> tuple[int, int]:
        """Stochastic steps `[begin, end)` of a rollout batch, counted from 0; a pure function of its arguments.

        Raises:
            UserError: The window does not fit into the schedule.
        """
        return choose_window(self.config, seed, rollout_batch, last_step=self.stochastic_last_step)


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
    from worldr1_core.seeding import derive_seed  # loads torch

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
