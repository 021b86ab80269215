"""Processes that compute for the first one.

Some commands are one sequence of work: an evaluation, sampling. The first process runs it alone, reads and writes files
and talks to the user. Where a model or another network takes a batch part by part, `each` hands the parts to all
processes, which hold the same objects. Parts stay whole, so the results are those of one process, bit for bit.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from diffae.distributed import alone, control_group, is_main, world_size

R = TypeVar("R")


@dataclass(frozen=True)
class _Team:
    objects: Sequence[object]
    size: int


_team: ContextVar[_Team | None] = ContextVar("team", default=None)


def lead(work: Callable[[], R], *objects: object) -> R | None:
    """Run `work` in the first process, while the others compute what `each` asks of these objects.

    In `work`, `world_size` is 1. With one process, this is `work()`.

    Args:
        work: called in the first process only.
        objects: what the processes hold copies of, in the same order, such as a model.
    Returns:
        What `work` returns, in the first process; None in the others, when it is done.
    """
    if world_size() == 1:
        return work()
    control_group()
    if not is_main():
        _serve(objects)
        return None
    size = world_size()
    token = _team.set(_Team(objects, size))
    try:
        with alone():
            return work()
    finally:
        _team.reset(token)
        for other in range(1, size):
            _send(None, other)


def team_size() -> int:
    """How many processes share the parts of `each`."""
    team = _team.get()
    return team.size if team else 1


def each(owner: object, method: str, parts: Iterable[Any], *args: Any) -> Iterator[Any]:
    """Yield `owner.method(part, *args)` for each part, in order.

    Where `lead` was called with `owner`, all processes take part. The tensors that another process returns are on the
    CPU, and those that it is given too.

    Raises:
        Exception: what the method raised, in any process.
    """
    team, parts = _team.get(), iter(parts)
    place = next((i for i, one in enumerate(team.objects) if one is owner), None) if team else None
    call = getattr(owner, method)
    if team is None or place is None:
        yield from (call(part, *args) for part in parts)
        return
    while turn := list(islice(parts, team.size)):
        for other, part in enumerate(turn[1:], 1):
            _send((place, method, part, args), other)
        answers = [_attempt(call, turn[0], args), *(_received(other) for other in range(1, len(turn)))]
        for value, error in answers:
            if error is not None:
                raise error
            yield value


def _serve(objects: Sequence[object]) -> None:
    """Compute what the first process asks, until it stops."""
    while asked := _received(0):
        place, method, part, args = asked
        _send(_attempt(getattr(objects[place], method), part, args), 0)


def _attempt(call: Callable[..., Any], part: Any, args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """What the call returns, or the error it raises: the other processes must not wait in vain."""
    try:
        return call(part, *args), None
    except Exception as error:
        return None, error


def _send(message: Any, other: int) -> None:
    from torch.distributed import send_object_list

    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(message)
    send_object_list([buffer.getvalue()], other, group=control_group())


def _received(other: int) -> Any:
    from torch.distributed import recv_object_list

    packed: list[Any] = [None]
    recv_object_list(packed, other, group=control_group())
    return pickle.loads(packed[0])


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays: without the rest of the memory that they are a view of, and on the CPU."""

    def reducer_override(self, value: Any) -> Any:
        """See pickle.Pickler."""
        import torch

        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.detach().cpu().numpy(),)
        return NotImplemented
