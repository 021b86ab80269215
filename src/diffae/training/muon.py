"""Muon: orthogonal steps for matrices, AdamW for the rest.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). A convolution's weight is a matrix
with one row per output channel. A gradient is dominated by a few directions with large singular values; a step that
makes all singular values equal also learns from the others. A module whose attribute `optimizer_group` is "adam" keeps
Adam for its parameters. PyTorch's `torch.optim.Muon` takes no convolutions, and one matrix at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn

from diffae.distributed import rank, world_size

MOMENTUM = 0.95
"""Momentum of the running mean of gradients (Nesterov)."""

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Coefficients of the polynomial that drives singular values towards 1, into about 0.7 to 1.2, and its iterations."""

TINY = 1e-30
"""Smallest squared norm of a matrix, so that zero stays zero."""

SCALE = 0.4
"""Root mean square of a step's elements relative to the learning rate, so that Adam's rate serves both
(docs/recipe.md)."""


def orthogonalised(matrices: list[Tensor]) -> list[Tensor]:
    """U V^T of each matrix U S V^T, approximately, by the Newton-Schulz iteration (Jordan et al. 2024).

    The iteration replaces X by p(X X^T) X with a polynomial p. It needs only X X^T, which is small: the product of all
    p(X X^T) is computed for matrices with the same shorter side together, and multiplied with X at the end; tall
    matrices are treated from the other side. In float32, since lower precision fills the null space of X with noise
    that the iteration amplifies.

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
    """About (X X^T)^(-1/2), from X X^T."""
    length = square.diagonal(dim1=1, dim2=2).sum(dim=1).clamp(min=TINY).sqrt()[:, None, None]
    square = square / length**2  # so that no singular value is above 1
    product = torch.eye(square.shape[1], device=square.device).expand_as(square)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        product, square = polynomial @ product, polynomial @ square @ polynomial
    return product / length


def orthogonalised_by_all(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonalised`, with the matrices divided among all processes, each of which has the same ones."""
    if world_size() == 1:
        return orthogonalised(matrices)
    owner = owners([matrix.shape for matrix in matrices], world_size())
    found = [torch.empty_like(matrix) for matrix in matrices]
    for process in range(world_size()):
        places = [place for place, one in enumerate(owner) if one == process]
        steps = [found[place] for place in places]
        if process == rank():
            steps = orthogonalised([matrices[place] for place in places])
        flat = torch.cat([step.flatten() for step in steps]) if steps else matrices[0].new_empty(0)
        torch.distributed.broadcast(flat, src=process)
        for place, part in zip(places, flat.split([step.numel() for step in steps]), strict=True):
            found[place] = part.view_as(matrices[place])
    return found


def owners(shapes: Sequence[Sequence[int]], processes: int) -> list[int]:
    """The process of each matrix, so that all have about as many operations to do: the largest are given out first."""
    costs = [min(shape) ** 2 * (max(shape) + 2 * ITERATIONS * min(shape)) for shape in shapes]
    loads, found = [0] * processes, [0] * len(costs)
    for place in sorted(range(len(costs)), key=costs.__getitem__, reverse=True):
        found[place] = loads.index(min(loads))
        loads[found[place]] += costs[place]
    return found


def parameter_groups(networks: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that Muon orthogonalises, and those left to Adam: vectors, and modules with `optimizer_group` "adam".

    Frozen parameters are in neither.
    """
    adam = {
        parameter
        for module in networks.modules()
        if getattr(module, "optimizer_group", None) == "adam"
        for parameter in module.parameters()
    }
    matrices, others = [], []
    for parameter in networks.parameters():
        if parameter.requires_grad:
            (others if parameter.dim() < 2 or parameter in adam else matrices).append(parameter)
    return matrices, others


class Muon(torch.optim.AdamW):
    """Orthogonalised momentum for matrices, AdamW for vectors and for modules that ask for it.

    Args:
        networks: the module to train; its parameters are grouped by `parameter_groups`.
        lr: learning rate of both.
        weight_decay: fraction of a weight, times the learning rate, subtracted in each step.
        adam: further settings of AdamW.
    """

    def __init__(self, networks: nn.Module, lr: float, weight_decay: float, **adam: Any) -> None:
        matrices, others = parameter_groups(networks)
        super().__init__([{"params": matrices}, {"params": others}], lr=lr, weight_decay=weight_decay, **adam)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As any optimiser's; Adam's own expects a step count, which matrices do not have."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a step."""
        assert closure is None
        group = self.param_groups[0]
        matrices = [parameter for parameter in group["params"] if parameter.grad is not None]
        steps = orthogonalised_by_all([self._ahead(matrix).flatten(1) for matrix in matrices])
        for matrix, step in zip(matrices, steps, strict=True):
            if group["weight_decay"]:
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
            size = max(step.shape) ** 0.5  # the elements of an orthogonal matrix have 1 / size
            matrix.add_(step.view_as(matrix), alpha=-group["lr"] * SCALE * size)
            matrix.grad = None
        super().step()  # of what still has a gradient

    def _ahead(self, matrix: Tensor) -> Tensor:
        """Nesterov momentum: the running mean with this gradient, moved once more towards it."""
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        return gradient.lerp(state["momentum"].lerp_(gradient, 1 - MOMENTUM), MOMENTUM)
