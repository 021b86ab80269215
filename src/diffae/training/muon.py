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

from diffae.networks.layers import AdaGN

MOMENTUM = 0.95
"""Of the running mean of gradients; Nesterov's, which looks one step ahead."""

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of the polynomial that drives singular values towards 1, and how often: after it they lie in about 0.7 to 1.2."""

TINY = 1e-30
"""Least squared length of a matrix; one of zeros stays one."""

SCALE = 0.4
"""Root mean square of a step's elements, relative to the learning rate, so that Adam's rate serves both; of 0.4 and 0.8
the better (docs/recipe.md)."""


def orthogonalised(matrices: list[Tensor]) -> list[Tensor]:
    """Each matrix U S V^T as about U V^T, by Newton and Schulz's iteration (Jordan et al. 2024).

    It replaces X by p(X X^T) X, time and again, with a polynomial p. All of it follows from X X^T, which is small: so
    only the product of these p(X X^T) is computed, of all matrices with the same lesser side together, and multiplied
    with X at the end; of tall matrices from the other side. In float32: a lower precision fills the directions in which
    X is 0 with noise, and the iteration enlarges it.

    Args:
        matrices: float32 (rows, columns), of any shapes.
    """
    wide = [matrix.shape[0] <= matrix.shape[1] for matrix in matrices]
    squares = [m @ m.mT if flat else m.mT @ m for m, flat in zip(matrices, wide, strict=True)]
    sides: defaultdict[int, list[int]] = defaultdict(list)
    for index, square in enumerate(squares):
        sides[len(square)].append(index)
    factors: dict[int, Tensor] = {}
    for same in sides.values():
        factors |= zip(same, _inverse_root(torch.stack([squares[index] for index in same])), strict=True)
    return [factors[i] @ m if flat else m @ factors[i] for i, (m, flat) in enumerate(zip(matrices, wide, strict=True))]


def _inverse_root(square: Float[Tensor, "n side side"]) -> Float[Tensor, "n side side"]:
    """About (X X^T)^(-1/2), of X X^T."""
    length = square.diagonal(dim1=1, dim2=2).sum(dim=1).clamp(min=TINY).sqrt()[:, None, None]
    square = square / length**2  # so that no singular value is above 1
    product = torch.eye(square.shape[1], device=square.device).expand_as(square)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        product, square = polynomial @ product, polynomial @ square @ polynomial
    return product / length


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
        """Take a step."""
        assert closure is None
        group = self.param_groups[0]
        matrices = [parameter for parameter in group["params"] if parameter.grad is not None]
        steps = orthogonalised([self._ahead(matrix).flatten(1) for matrix in matrices])
        for matrix, step in zip(matrices, steps, strict=True):
            if group["weight_decay"]:
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
            size = max(step.shape) ** 0.5  # the elements of an orthogonal matrix have 1 / size
            matrix.add_(step.view_as(matrix), alpha=-group["lr"] * SCALE * size)
            matrix.grad = None
        super().step()  # of what still has a gradient

    def _ahead(self, matrix: Tensor) -> Tensor:
        """The momentum with this gradient, and once more towards it."""
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        return gradient.lerp(state["momentum"].lerp_(gradient, 1 - MOMENTUM), MOMENTUM)
