"""The networks' thread: batches of several visitors, turns, cancelling."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from diffae.studio import engine as engines
from diffae.studio.engine import Busy, Cancelled, Engine, Operation, Ticket


class Recorder:
    """Doubles numbers, remembers the batches, and waits for `go` before the first."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        self.batches.append(list(values))
        self.begun.set()
        assert self.go.wait(10)
        return [2 * value for value in values]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def waiting(engine: Engine, count: int) -> None:
    """Wait until so many items are queued."""
    for _ in range(1000):
        if sum(map(len, engine._queues.values())) == count:
            return
        threading.Event().wait(0.005)
    raise AssertionError(engine._queues)


def test_results_come_in_order(engine: Engine) -> None:
    double = Operation(lambda values: [2 * value for value in values], 3)
    done: list[int] = []
    assert engine.map(double, range(7), Ticket("a"), done.append) == [0, 2, 4, 6, 8, 10, 12]
    assert done == [1, 2, 3, 4, 5, 6, 7]


def test_visitors_share_batches_and_take_turns(engine: Engine, pool: ThreadPoolExecutor) -> None:
    record = Recorder()
    operation = Operation(record, 4)
    first = pool.submit(engine.map, operation, [0], Ticket("other"))
    assert record.begun.wait(10)
    many = pool.submit(engine.map, operation, [1, 2, 3, 4, 5, 6], Ticket("many"))
    waiting(engine, 6)
    few = pool.submit(engine.map, operation, [10], Ticket("few"))
    waiting(engine, 7)
    record.go.set()
    assert [first.result(10), many.result(10), few.result(10)] == [[0], [2, 4, 6, 8, 10, 12], [20]]
    assert record.batches[1] == [1, 10, 2, 3]  # the visitor of one item does not wait for all six


def test_operations_are_not_mixed(engine: Engine, pool: ThreadPoolExecutor) -> None:
    record, other = Recorder(), Recorder()
    other.go.set()
    first = pool.submit(engine.map, Operation(record, 4), [0], Ticket("a"))
    assert record.begun.wait(10)
    second = pool.submit(engine.map, Operation(other, 4), [1], Ticket("b"))
    waiting(engine, 1)
    record.go.set()
    assert first.result(10) + second.result(10) == [0, 2]
    assert (record.batches, other.batches) == ([[0]], [[1]])


def test_cancelled_work_does_not_run(engine: Engine, pool: ThreadPoolExecutor) -> None:
    record, ticket = Recorder(), Ticket("b")
    operation = Operation(record, 1)
    first = pool.submit(engine.map, operation, [0], Ticket("a"))
    assert record.begun.wait(10)
    second = pool.submit(engine.map, operation, [1, 2], ticket)
    waiting(engine, 2)
    ticket.cancel()
    record.go.set()
    with pytest.raises(Cancelled):
        second.result(10)
    assert first.result(10) == [0]
    assert record.batches == [[0]]


def test_an_error_reaches_its_visitors_alone(engine: Engine) -> None:
    def fail(values: Sequence[Any]) -> list[Any]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        engine.map(Operation(fail, 2), [1, 2], Ticket("a"))
    assert engine.map(Operation(list, 2), [3], Ticket("a")) == [3]


def test_too_much_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MOST_WAITING", 2)
    with pytest.raises(Busy):
        engine.map(Operation(list, 2), [1, 2, 3], Ticket("a"))


def test_closing_cancels_what_waits(pool: ThreadPoolExecutor) -> None:
    engine, record = Engine(), Recorder()
    operation = Operation(record, 1)
    first = pool.submit(engine.map, operation, [0, 1], Ticket("a"))
    assert record.begun.wait(10)
    closing = pool.submit(engine.close)
    record.go.set()
    closing.result(10)
    with pytest.raises(Cancelled):
        first.result(10)
