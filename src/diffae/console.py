"""Terminal output shared by the whole package: escaped text, a console that interprets no markup, a progress bar."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from diffae.distributed import is_main
from diffae.errors import escaped

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY_SECONDS = 30.0
"""How often progress is printed where standard error is not a terminal."""
FIRST_LINE_SECONDS = 2.0
"""When it is first printed there."""


def console(*, stderr: bool = True, quiet: bool = False) -> Console:
    """A rich console that shows text literally: no markup, emoji codes or highlighting."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)


class Update(Protocol):
    """Sets a progress bar to `done`, with a note such as the current loss."""

    def __call__(self, done: int, note: str = "") -> None: ...


@contextmanager
def progress(
    what: str,
    total: int | None,
    unit: str = "images",
    *,
    start: int = 0,
    output: Console | None = None,
    transient: bool = True,
) -> Iterator[Update]:
    """Show progress: a bar in a terminal; in a log a line after 2 seconds, then every 30.

    Args:
        what: description.
        total: number of items, if known.
        unit: name of the items.
        start: items done before.
        output: where to show it; by default standard error.
        transient: remove the bar at the end.
    Yields:
        A function that sets the number of items done so far.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    output = output or console(quiet=not is_main())
    description, note = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
    columns = (description, BarColumn(), MofNCompleteColumn(), note, TimeRemainingColumn())
    begin = time.monotonic()
    due = begin + min(FIRST_LINE_SECONDS, LINE_EVERY_SECONDS)
    with Progress(*columns, console=output, disable=output.quiet or not output.is_terminal, transient=transient) as bar:
        task = bar.add_task(escaped(what), total=total, completed=start, note=unit)

        def update(done: int, note: str = "") -> None:
            nonlocal due
            now = time.monotonic()
            rate = (done - start) / max(now - begin, 1e-9)
            note = " · ".join(part for part in (f"{rate:,.3g} {unit}/s", note) if part)
            bar.update(task, completed=done, note=f"{unit} · {note}")
            if not output.is_terminal and now > due:
                due = now + LINE_EVERY_SECONDS
                of = "" if total is None else f" of {total:,}"
                left = "" if total is None or not rate else f" · {(total - done) / rate / 60:.0f} min left"
                output.print(f"{escaped(what)}: {done:,}{of} {unit} · {note}{left}", soft_wrap=True)

        yield update
