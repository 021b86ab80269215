"""One thread for the networks: what several visitors ask for goes through them together, and each has its turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

MOST_WAITING = 4096
"""Items of all visitors that may wait; more are refused."""


class Cancelled(Exception):
    """The visitor no longer waits for the result."""


class Busy(Exception):
    """Too much is waiting already."""


@dataclass(frozen=True, eq=False)
class Operation:
    """Something that the networks do to a batch; batches hold items of one operation alone."""

    run: Callable[[Sequence[Any]], Sequence[Any]]
    """Maps items to as many results, in order."""
    at_once: int
    """Most items of a batch, which bounds how long others wait."""


@dataclass
class Ticket:
    """A visitor's request: whose it is, whether it is still wanted, and how far it has come."""

    session: str
    report: Callable[[float], None] = lambda share: None
    """Called with the share of the work that is done, 0 to 1."""
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Stop the work at its next network call."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise `Cancelled` if the work is no longer wanted."""
        if self._cancelled.is_set():
            raise Cancelled

    @property
    def cancelled(self) -> bool:
        """Whether the work is no longer wanted."""
        return self._cancelled.is_set()


@dataclass(eq=False)
class _Item:
    operation: Operation
    value: Any
    ticket: Ticket
    result: Future[Any] = field(default_factory=Future)


class Engine:
    """Runs operations in a thread of its own, in batches that take one item of each visitor in turn."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[_Item]] = {}
        self._ready = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="networks", daemon=True)
        self._thread.start()

    def map(
        self,
        operation: Operation,
        values: Sequence[Any],
        ticket: Ticket,
        progress: Callable[[int], None] | None = None,
    ) -> list[Any]:
        """Run an operation on values, and wait.

        Args:
            operation: what to do.
            values: one for each result.
            ticket: whose request it is.
            progress: called with the number of values done so far.
        Raises:
            Cancelled: the ticket was cancelled.
            Busy: too many items are waiting.
        """
        ticket.check()
        items = [_Item(operation, value, ticket) for value in values]
        with self._ready:
            if self._closed or sum(map(len, self._queues.values())) + len(items) > MOST_WAITING:
                raise Busy
            self._queues.setdefault(ticket.session, deque()).extend(items)
            self._ready.notify()
        results = []
        for item in items:
            results.append(item.result.result())
            if progress:
                progress(len(results))
        return results

    def close(self) -> None:
        """Stop after the present batch; what still waits is cancelled."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()
        for queue in self._queues.values():
            for item in queue:
                item.result.set_exception(Cancelled())

    def _work(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._closed or any(self._queues.values()))
                if self._closed:
                    return
                batch = self._next_batch()
            if batch:
                _run(batch)

    def _next_batch(self) -> list[_Item]:
        """One item of each visitor in turn, of the operation that the first of them waits for; the lock is held."""
        self._drop_cancelled()
        if not self._queues:
            return []
        operation = next(iter(self._queues.values()))[0].operation
        batch: list[_Item] = []
        served: dict[str, None] = {}
        taking = True
        while taking and len(batch) < operation.at_once:
            taking = False
            for session, queue in self._queues.items():
                if queue and queue[0].operation is operation and len(batch) < operation.at_once:
                    batch.append(queue.popleft())
                    served[session] = None
                    taking = True
        for session in served:  # those served stand behind the others
            self._queues[session] = self._queues.pop(session)
        self._queues = {session: queue for session, queue in self._queues.items() if queue}
        return batch

    def _drop_cancelled(self) -> None:
        for session, queue in list(self._queues.items()):
            for item in queue:
                if item.ticket.cancelled:
                    item.result.set_exception(Cancelled())
            kept = deque(item for item in queue if not item.ticket.cancelled)
            if kept:
                self._queues[session] = kept
            else:
                del self._queues[session]


def _run(batch: list[_Item]) -> None:
    try:
        results = batch[0].operation.run([item.value for item in batch])
    except Exception as error:
        for item in batch:
            item.result.set_exception(error)
    else:
        for item, result in zip(batch, results, strict=True):
            item.result.set_result(result)
