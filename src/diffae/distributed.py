"""This process and the others of a job that `torchrun` or `accelerate launch` started; one process without them."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from diffae.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import PartialState

WAIT = timedelta(hours=12)
"""How long processes wait for one that validates or encodes: the default of ten minutes is too short for large models.
"""


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if _launched() else 0


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1")) if _launched() else 1


def _launched() -> bool:
    return "LOCAL_RANK" in os.environ  # as accelerate decides it; some clusters set WORLD_SIZE for single processes


def is_main() -> bool:
    """Whether this is the first process: the one that prints, and writes what there is one of."""
    return rank() == 0


def share(count: int) -> range:
    """This process's rows of `count`: consecutive, so that the shares in order of rank are all rows in order."""
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


def processes() -> PartialState:
    """The processes, connected, and the device of this one."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.accelerator.is_available(), timeout=WAIT)


def barrier() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        processes().wait_for_everyone()


def require_one_process(what: str) -> None:
    """Raise `ConfigError` where there are several processes, which `what` cannot share."""
    if world_size() > 1:
        raise ConfigError(f"{what} runs in one process, {world_size()} were started: start it without torchrun")
