"""Muon: orthogonal steps for matrices, AdamW for the rest.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). A convolution's weight, too, is a
matrix, with a row for each channel it puts out. Its gradient consists mostly of the few directions with large singular
values; a step that makes all singular values alike also learns what the others say. AdaGN's layers keep Adam: they
are a third of the arithmetic. PyTorch's `torch.optim.Muon` takes no convolutions, and one matrix at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffae.networks.blocks import AdaGN

MOMENTUM = 0.95
"""Of the running mean of gradients; Nesterov's, which looks one step ahead."""

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of the polynomial that drives singular values towards 1, and how often: after it they lie in about 0.7 to 1.2."""

SCALE = 0.4
"""Root mean square of a step's elements, relative to the learning rate, so that Adam's rate serves both; of 0.4 and 0.8
the better (docs/recipe.md)."""


def orthogonalised(matrices: Float[Tensor, "n rows columns"]) -> Float[Tensor, "n rows columns"]:
    """Each matrix U S V^T as about U V^T, by Newton and Schulz's iteration (Jordan et al. 2024), in bfloat16."""
    a, b, c = COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)  # so that no singular value is above 1
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


class Muon(torch.optim.AdamW):
    """Steps along the orthogonalised momentum for matrices, AdamW for the rest: vectors, and all of AdaGN.

    Args:
        networks: what is trained.
        lr: the learning rate of both.
        weight_decay: the share of a weight, relative to the learning rate, that each step takes away.
        adam: further settings of AdamW.
    """

    def __init__(self, networks: nn.Module, lr: float, weight_decay: float, **adam: Any) -> None:
        modulating = {p for module in networks.modules() if isinstance(module, AdaGN) for p in module.parameters()}
        matrices, others = [], []
        for parameter in networks.parameters():
            (others if parameter.dim() < 2 or parameter in modulating else matrices).append(parameter)
        super().__init__([{"params": matrices}, {"params": others}], lr=lr, weight_decay=weight_decay, **adam)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As any optimiser; Adam's own looks for its count of steps, which matrices do not have."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a step; matrices of one shape are orthogonalised together."""
        assert closure is None
        group = self.param_groups[0]
        shapes: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                shapes[parameter.shape].append(parameter)
        for parameters in shapes.values():
            self._step_matrices(parameters, group["lr"], group["weight_decay"])
        super().step()  # of what still has a gradient

    def _step_matrices(self, parameters: list[Tensor], lr: float, weight_decay: float) -> None:
        steps = orthogonalised(torch.stack([self._ahead(parameter).flatten(1) for parameter in parameters]))
        size = max(steps.shape[1:]) ** 0.5  # the elements of an orthogonal matrix have 1 / size
        for parameter, step in zip(parameters, steps, strict=True):
            if weight_decay:
                parameter.mul_(1 - lr * weight_decay)
            parameter.add_(step.view_as(parameter), alpha=-lr * SCALE * size)
            parameter.grad = None

    def _ahead(self, parameter: Tensor) -> Tensor:
        """The momentum with this gradient, and once more towards it."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return gradient.lerp(state["momentum"].lerp_(gradient, 1 - MOMENTUM), MOMENTUM)
