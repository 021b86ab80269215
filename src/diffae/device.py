"""Where networks run, and on how many images at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

BATCH = 64
"""Images that go through the networks at once; longer batches are taken in parts, which bounds memory."""


def default_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def parts(count: int) -> Iterator[slice]:
    """Slices of at most BATCH images; one empty slice for none."""
    return (slice(start, start + BATCH) for start in range(0, max(count, 1), BATCH))
