"""Which of several training processes this is; they are started by `accelerate launch` or `torchrun`."""

from __future__ import annotations

from accelerate import PartialState

from diffae.autoencoder import default_device


def processes() -> PartialState:
    """This process and the others. Without an accelerator they must be told to meet on the CPU."""
    return PartialState(cpu=default_device().type == "cpu")
