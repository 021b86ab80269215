"""The device that models are loaded to and networks are trained on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from diffae.errors import ConfigError

if TYPE_CHECKING:
    import torch

DEVICE = "ACCELERATE_TORCH_DEVICE"
"""The environment variable that names it, as accelerate reads it."""


def default_device() -> torch.device:
    """The device chosen by `use_device`, else a GPU if there is one, else the CPU."""
    import torch

    if name := os.environ.get(DEVICE):
        return torch.device(name)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def use_device(name: str) -> None:
    """Make a device the default of this process and of those that it starts.

    Args:
        name: such as "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        ConfigError: no such device.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device is {name!r}: must be cpu, cuda, cuda:NUMBER, mps or another of PyTorch's") from None
    there = torch.accelerator.current_accelerator(check_available=True)
    known = ["cpu"] + [f"{there.type}:{number}" for number in range(torch.accelerator.device_count()) if there]
    if device.type != "cpu" and f"{device.type}:{device.index or 0}" not in known:
        raise ConfigError(f"device is {name!r}: PyTorch finds {', '.join(known)} on this machine; choose one of these")
    os.environ[DEVICE] = name
