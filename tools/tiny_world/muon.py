"""Muon: momentum whose update is orthogonalised, for the matrices of hidden layers (Jordan et al. 2024).

torch ships one from 2.9 on; this one runs on every version that is supported, and orthogonalises all matrices of a
shape in one batch, which is what a small model on a CPU needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
FAST_BFLOAT16 = torch.cpu._is_avx512_bf16_supported()
"""Without such instructions bfloat16 is emulated, many times slower than float32."""
DTYPE = torch.bfloat16 if FAST_BFLOAT16 else torch.float32


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised by a Newton-Schulz iteration in bfloat16 where that is fast.

    Args:
        params: Matrices.
        lr: Step, of updates with singular values near 1 times sqrt(max(1, rows / columns)).
        momentum: Of the gradient.
        weight_decay: Decoupled, times `lr`.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-2, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; a closure is called first, as with every optimizer of torch."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"]
            assert parameter.grad is not None
            buffer.lerp_(parameter.grad, 1 - group["momentum"])
            directions.append(parameter.grad.lerp(buffer, group["momentum"]))
        rows, columns = parameters[0].shape
        scale = group["lr"] * max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(parameters, orthogonalise(torch.stack(directions)), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.to(parameter.dtype), alpha=-scale)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices `(N, R, C)` with their singular values moved near 1 (quintic Newton-Schulz iteration), as `DTYPE`."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.transpose(-1, -2) if tall else matrices).to(DTYPE)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.transpose(-1, -2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(-1, -2) if tall else x
