"""Small networks as TorchScript files."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn


def save_script(path: Path, network: nn.Module, size: int = 16) -> str:
    """Save a network as TorchScript; returns its source."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but people hold such files
        torch.jit.save(torch.jit.trace(network.eval(), torch.zeros(1, 3, size, size)), path)
    return f"torchscript:{path}"


def colours(size: int = 16) -> nn.Module:
    """The mean colour of an image."""
    return nn.Sequential(nn.AvgPool2d(size), nn.Flatten())
