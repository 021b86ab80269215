"""This process and the others of a job that `torchrun` or `accelerate launch` started; one process without them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from diffae.devices import default_device
from diffae.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")

WAIT = timedelta(hours=12)
"""How long processes wait for one that validates or encodes: the default of ten minutes is too short for large models.
"""


LOST = "another process of this job ended before this one: see its message, and run the job again"
_CONNECTION = ("gloo", "NCCL", "TCPStore", "Connection closed by peer")  # in what PyTorch raises where one ended
_SPLITTING = ("FSDP", "DEEPSPEED", "MEGATRON_LM")  # as accelerate names them in the environment


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
    """The processes, connected, and the device of this one.

    Raises:
        ConfigError: they were told to split the networks among them.
    """
    from accelerate import PartialState

    for way in _SPLITTING:
        if os.environ.get(f"ACCELERATE_USE_{way}", "false").lower() in ("true", "1", "yes"):
            rule = "every process holds whole networks, as the moving average, Muon and checkpoints need"
            raise ConfigError(f"accelerate is told to use {way}: {rule}; start without it, or by torchrun")
    return PartialState(cpu=default_device().type == "cpu", timeout=WAIT)


def barrier() -> None:
    """Wait until every process has come here.

    Raises:
        TrainingError: another process ended before.
    """
    if world_size() > 1:
        try:
            processes().wait_for_everyone()
        except RuntimeError as error:  # the connection is closed
            raise TrainingError(LOST) from error


def lost_another(error: Exception) -> bool:
    """Whether an error is that of a process whose connection to another one was closed."""
    return world_size() > 1 and isinstance(error, RuntimeError) and any(word in str(error) for word in _CONNECTION)


def require_one_process(what: str) -> None:
    """Raise `ConfigError` where there are several processes, which `what` cannot share."""
    if world_size() > 1:
        raise ConfigError(f"{what} runs in one process, {world_size()} were started: start it without torchrun")


@contextmanager
def alone() -> Iterator[None]:
    """Let this process do by itself what several could share, such as training a small network.

    `world_size` is 1 inside, and an `Accelerator` made inside knows no other process.
    """
    names = [name for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE") if name in os.environ]
    if not names:
        yield
        return
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before, variables = [dict(state) for state in states], {name: os.environ.pop(name) for name in names}
    for state in states:
        state.clear()
    try:
        yield
    finally:
        os.environ.update(variables)
        for state, was in zip(states, before, strict=True):
            state.clear()
            state.update(was)


@contextmanager
def in_turns() -> Iterator[None]:
    """Let the first process go first, then the first of every other node, then all others.

    For what is made once and then found: in a folder that nodes share by the first process, in a folder of each node by
    one process there.
    """
    several = world_size() > 1
    turn = 0 if is_main() else 1 if several and processes().is_local_main_process else 2
    for _ in range(turn):
        barrier()
    yield
    for _ in range(3 - turn):
        barrier()


def broadcast(value: T) -> T:
    """The first process's value, on every process."""
    if world_size() == 1:
        return value
    from torch.distributed import broadcast_object_list

    values = [value]
    broadcast_object_list(values, group=control_group())
    return values[0]


def divided(parts: Iterable[P], do: Callable[[P], R], *, everywhere: bool = False) -> Iterator[R]:
    """Yield `do(part)` for each part, in order; several processes take turns at the parts.

    All processes must call it with the same parts and exhaust it. Parts stay whole, so the results are those of one
    process, bit for bit.

    Args:
        parts: the same on every process.
        do: makes a result that can be pickled.
        everywhere: yield the results on every process, not on the first only.
    Raises:
        Exception: what `do` raised on any process, on every process.
    """
    parts, count = iter(parts), world_size()
    if count == 1:
        yield from map(do, parts)
        return
    while turn := list(islice(parts, count)):
        mine, error = None, None
        try:
            mine = do(turn[rank()]) if rank() < len(turn) else None
        except Exception as raised:  # the others must not wait for this part
            error = raised
        yield from _collected(mine, error, everywhere)[: len(turn)]


def _collected(mine: Any, error: Exception | None, everywhere: bool) -> list[Any]:
    """What each process gives; an empty list on all but the first, unless `everywhere`."""
    from torch.distributed import all_gather_object, gather_object

    errors: list[Exception | None] = [None] * world_size()
    all_gather_object(errors, error, group=control_group())
    for raised in filter(None, [error, *errors]):
        raise raised
    if everywhere:
        found = [None] * world_size()
        all_gather_object(found, mine, group=control_group())
        return found
    found = [None] * world_size() if is_main() else None
    gather_object(mine, found, group=control_group())
    return found or []


@cache
def control_group() -> Any:
    """All processes, connected through the CPU, which carries any object and waits without computing."""
    from torch.distributed import new_group

    processes()
    return new_group(backend="gloo", timeout=WAIT)
