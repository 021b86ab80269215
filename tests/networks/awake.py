"""Networks whose zero-initialised layers are given weights, so that every part has an effect."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def awake(module: Module, seed: int = 0) -> Module:
    """The module with all its parameters drawn anew: matrices keep the size of signals, vectors stay near their start.

    Args:
        module: changed in place, and put in evaluation mode.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * noise)
    return module.eval()
