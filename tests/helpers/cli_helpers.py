"""Shared by the tests of the command line: a tiny model, and checks of what was printed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny import tiny_config
from torch import nn

from diffae.config import DiffusionConfig
from diffae.model import DiffusionAutoencoder

SIZE = 16
Run = Callable[..., tuple[int, str, str]]

TINY_TRAINING = ("--image-size", "8", "--z-sem-channels", "4", "--images", "8", "--batch-size", "4")


def save_model(folder: Path, **changes: Any) -> Path:
    """Save a tiny model whose output is not zero, as with fresh weights; `changes` as of `tiny_config`."""
    torch.manual_seed(0)
    config = tiny_config(**{"dropout": 0.0, "encoder_channel_mult": (1, 2), **changes})
    model = DiffusionAutoencoder(replace(config, diffusion=DiffusionConfig(prediction="v")))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def first(faces: Path, count: int) -> list[Path]:
    return sorted(faces.glob("*.png"))[:count]


def one_line(err: str) -> str:
    """The last line printed, which must be the only error, without a traceback."""
    lines = err.strip().splitlines()
    assert lines[-1].startswith("diffae: error: "), err
    assert "Traceback" not in err
    assert sum(line.startswith("diffae: error") for line in lines) == 1
    return lines[-1]


def save_networks(size: int = SIZE) -> None:
    """Save maps.pt, vectors.pt and other.pt: images unchanged, their mean colours, and the negatives of these."""

    class Opposite(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -x

    colours = [nn.AvgPool2d(size), nn.Flatten()]
    networks = {
        "maps": nn.Identity(),
        "vectors": nn.Sequential(*colours),
        "other": nn.Sequential(*colours, Opposite()),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but people hold such files
        for name, network in networks.items():
            torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, size, size)), f"{name}.pt")
