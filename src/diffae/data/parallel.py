"""Work on many images by several threads, in order, with a progress bar."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 16  # items of one piece of work


def in_chunks(work: Callable[[list[Item]], Result], items: Iterator[Item], workers: int) -> Generator[Result]:
    """work(chunk) for chunk after chunk, in order. Threads suffice: Pillow decodes and scales without Python's lock."""
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[Result]] = deque()
    try:
        while True:
            while len(pending) < 2 * workers and (some := list(islice(items, _CHUNK))):
                pending.append(pool.submit(work, some))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def bar(what: str, total: int | None, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; the function yielded takes how many more are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(what, *columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task("", total=total, rate="")

        def advance(count: int) -> None:
            progress.advance(task, count)
            progress.update(task, rate=f"{progress.tasks[0].speed or 0:.0f} images/s")

        yield advance
