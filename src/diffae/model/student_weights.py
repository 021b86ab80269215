"""Weights kept as differences from those of another network, in integers of 8 bits: a quarter of the size of float32.

The differences of an output channel share a scale. A student has changed so little since it was its decoder that a few
levels suffice, which moreover compress well.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LARGEST = 31
"""The integer that stands for the largest difference of a channel."""

_SCALE = ".scale"


def differences(weights: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors to store; those that are not of floating point as they are."""
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        found[name] = weight.cpu()
        if weight.is_floating_point():
            difference = (weight.cpu() - base[name].cpu()).float()
            rows = difference.reshape(difference.shape[:1].numel(), -1)
            scale = rows.abs().amax(1) / LARGEST
            parts = rows / scale[:, None].clamp(min=torch.finfo(torch.float32).tiny)
            found[name] = parts.round().to(torch.int8).view(difference.shape)
            found[name + _SCALE] = scale
    return found


def restored(stored: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that `differences` were taken of, up to rounding; fails on tensors of another network."""
    scales = {name.removesuffix(_SCALE): value for name, value in stored.items() if name.endswith(_SCALE)}
    found = {name: value for name, value in stored.items() if not name.endswith(_SCALE)}
    for name, scale in scales.items():
        before = base[name].cpu().float()
        wide = scale.view(-1, *[1] * (before.dim() - 1)) if before.dim() else scale[0]
        found[name] = before + found[name] * wide
    return found
