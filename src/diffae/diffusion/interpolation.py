"""Paths between codes (paper Section 5.2): straight lines in z_sem, great arcs in x_T."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def lerp(a: Tensor, b: Tensor, weight: Float[Tensor, " n"]) -> Tensor:
    """Straight line from a to b (each (1, ...)) at the weights (n,)."""
    w = weight.to(a.device).view(-1, *[1] * (a.dim() - 1))
    return (1 - w) * a + w * b


def slerp(a: Tensor, b: Tensor, weight: Float[Tensor, " n"]) -> Tensor:
    """Great arc from a to b (each (1, ...)) at the weights (n,), which keeps x_T's norm (Shoemake 1985)."""
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1)
    angle = torch.acos(cosine).item()
    if angle < 1e-4:
        return lerp(a, b, weight)
    w = weight.to(a.device).view(-1, *[1] * (a.dim() - 1))
    return (torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / torch.sin(torch.tensor(angle))
