"""Modules whose zero-initialised layers are given weights, so that every part has an effect."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def awake(module: Module, seed: int = 0) -> Module:
    """Draw all parameters of a module anew, at a scale that preserves the size of signals.

    Args:
        module: changed in place, and put in evaluation mode.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + (1 if name.endswith("weight") else 0))  # weights of norms are about 1
    return module.eval()
