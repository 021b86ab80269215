"""Which of several training processes this is; they are started by `accelerate launch` or `torchrun`."""

from __future__ import annotations

from datetime import timedelta

from accelerate import PartialState

from diffae.device import default_device

WAIT = timedelta(hours=12)
"""How long processes wait for one that validates or encodes: the usual ten minutes are too short for large models."""


def processes() -> PartialState:
    """This process and the others. Without an accelerator they must be told to meet on the CPU."""
    return PartialState(cpu=default_device().type == "cpu", timeout=WAIT)
