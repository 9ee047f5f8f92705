"""A stochastic step of a policy: the density it is drawn from, and the record that training reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Transition:
    """The Gaussian from which a stochastic step draws the next sample.

    Attributes:
        mean: `(B, ...)` float32.
        std: Standard deviation of every component, > 0.
    """

    mean: Tensor
    std: float

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `value` `(B, ...)`, averaged over all but the batch (paper, section 3): `(B,)`."""
        return self._log_density(((value - self.mean) ** 2).flatten(1).mean(1))

    def log_prob_map(self, value: Tensor) -> Tensor:
        """Log-density of `value` `(B, ..., h, w)` at every place, averaged over the dimensions between: `(B, h, w)`.

        Its mean over the places is `log_prob`.
        """
        return self._log_density(((value - self.mean) ** 2).flatten(1, -3).mean(1))

    def _log_density(self, squares: Tensor) -> Tensor:
        """Of components whose mean squared distance from the mean is `squares`."""
        return -squares / (2 * self.std**2) - math.log(self.std) - 0.5 * math.log(2 * math.pi)

    def kl(self, reference: Transition) -> Tensor:
        """KL divergence to a Gaussian of the same std, |mean - mean_ref|^2 / (2 std^2), averaged likewise: `(B,)`."""
        return ((self.mean - reference.mean) ** 2).flatten(1).mean(1) / (2 * self.std**2)

    def kl_map(self, reference: Transition) -> Tensor:
        """The same at every place, averaged over the dimensions between: `(B, h, w)`; its mean is `kl`."""
        return ((self.mean - reference.mean) ** 2).flatten(1, -3).mean(1) / (2 * self.std**2)


@dataclass(frozen=True, slots=True)
class SchedulePoint:
    """Position of a step in the schedule.

    Levels are what the scheduler counts noise in: sigma for flow models (1 is pure noise, 0 is data), the cumulative
    product of alphas for diffusion models (near 0 is pure noise, 1 is data).

    Attributes:
        index: Step in the full schedule, from 0.
        timestep: What the denoiser is told.
        noise_level: Noise level before the step.
        next_level: Noise level after it.
        first_step_level: Noise level after step 0 of the schedule, for formulas that divide by zero at the first step.
    """

    index: int
    timestep: float
    noise_level: float
    next_level: float
    first_step_level: float


@dataclass(frozen=True, slots=True)
class DenoiserCall:
    """One forward pass of a denoiser, as the pipeline made it.

    Attributes:
        module: Name of the denoiser in the pipeline, e.g. `"transformer"` or `"transformer_2"`.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """

    module: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def select(self, rows: Sequence[int], batch_size: int, shared: frozenset[str]) -> DenoiserCall:
        """The same call for some samples of the batch.

        Args:
            rows: Indices of the samples.
            batch_size: B of the recorded run. A tensor whose first dimension is k x B holds k blocks of the batch
                (unconditional and conditional, say); each block is selected from.
            shared: Names of arguments that do not belong to single samples.

        Tensors inside of other containers (rotary embeddings in a tuple, say) are kept whole.

        Raises:
            ValueError: A tensor's first dimension is no multiple of B.
        """
        kwargs = {
            name: value if name in shared else _select(value, rows, batch_size, name)
            for name, value in self.kwargs.items()
        }
        args = tuple(_select(value, rows, batch_size, f"argument {i}") for i, value in enumerate(self.args))
        return DenoiserCall(self.module, args, kwargs)

    def with_rows(
        self, other: DenoiserCall, rows: Sequence[int], batch_size: int, shared: frozenset[str]
    ) -> DenoiserCall:
        """The same call with some samples of another run of the same batch (arguments as for `select`)."""
        kwargs = {
            name: value if name in shared else _with_rows(value, other.kwargs[name], rows, batch_size, name)
            for name, value in self.kwargs.items()
        }
        pairs = enumerate(zip(self.args, other.args, strict=True))
        args = tuple(_with_rows(own, new, rows, batch_size, f"argument {i}") for i, (own, new) in pairs)
        return DenoiserCall(self.module, args, kwargs)


def _with_rows(value: Any, other: Any, rows: Sequence[int], batch_size: int, name: str) -> Any:
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    index = _rows_of_blocks(value, rows, batch_size, name)
    result = value.clone()
    result[index] = other[index]
    return result


def _select(value: Any, rows: Sequence[int], batch_size: int, name: str) -> Any:
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value[_rows_of_blocks(value, rows, batch_size, name)]


def _rows_of_blocks(value: Tensor, rows: Sequence[int], batch_size: int, name: str) -> list[int]:
    """Where some samples stand in a tensor that holds k blocks of the batch."""
    if value.shape[0] % batch_size:
        raise ValueError(
            f"Denoiser argument {name!r} has shape {tuple(value.shape)}, no multiple of the batch of {batch_size}. "
            "Name it in the backbone's shared_arguments if it belongs to no single sample."
        )
    return [block * batch_size + row for block in range(value.shape[0] // batch_size) for row in rows]


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """One recorded stochastic step of a batch, everything in float32 and in the pipeline's own latent layout.

    Attributes:
        point: Where in the schedule it stands.
        sample: `(B, ...)` before the step.
        next_sample: `(B, ...)` that was drawn, before any injection.
        mean: `(B, ...)` of the density it was drawn from.
        std: Its standard deviation.
        log_prob: `(B,)` log-density of `next_sample`, averaged over all but the batch.
        calls: The denoiser's forward passes that led to it.
    """

    point: SchedulePoint
    sample: Tensor
    next_sample: Tensor
    mean: Tensor
    std: float
    log_prob: Tensor
    calls: tuple[DenoiserCall, ...] = ()

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self.sample.shape[0])

    def select(self, rows: Sequence[int], shared: frozenset[str] = frozenset()) -> PolicyStep:
        """The same step for some samples of the batch; see `DenoiserCall.select`."""
        index = list(rows)
        return PolicyStep(
            self.point,
            self.sample[index],
            self.next_sample[index],
            self.mean[index],
            self.std,
            self.log_prob[index],
            tuple(call.select(index, self.batch_size, shared) for call in self.calls),
        )

    def with_rows(self, other: PolicyStep, rows: Sequence[int], shared: frozenset[str] = frozenset()) -> PolicyStep:
        """The same step with some samples of another run of the same batch, at the same point of the schedule."""
        parts = {
            name: _with_rows(getattr(self, name), getattr(other, name), rows, self.batch_size, name)
            for name in ("sample", "next_sample", "mean", "log_prob")
        }
        calls = zip(self.calls, other.calls, strict=True)
        return replace(
            self, **parts, calls=tuple(own.with_rows(new, rows, self.batch_size, shared) for own, new in calls)
        )
