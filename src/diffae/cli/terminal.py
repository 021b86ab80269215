"""How commands report: results on standard output, warnings and notes on standard error, text shown literally."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from diffae.console import console
from diffae.distributed import is_main
from diffae.errors import escaped


def say(*lines: str) -> None:
    """Print lines of result as they are, however long, so that paths and commands can be copied; once for all
    processes."""
    if not is_main():
        return
    print(*map(escaped, lines), sep="\n", flush=True)


def note(text: str) -> None:
    """Print a line about what is being done on standard error."""
    print(escaped(text), file=sys.stderr, flush=True)


def warn(*lines: str) -> None:
    """Print a warning on standard error, once for all processes."""
    if not is_main():
        return
    text = "\n  ".join(map(escaped, lines))
    console().print(f"diffae: warning: {text}", style="yellow", soft_wrap=True)


def busy(what: str) -> AbstractContextManager[object]:
    """Show that something of unknown length is being done, in a terminal."""
    from rich.text import Text

    return console().status(Text(escaped(what)))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """Print a table; its first `left` columns are aligned left, the others right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(escaped(heading), overflow="fold", justify="left" if place < left else "right")
    for row in rows:
        table.add_row(*map(escaped, row))
    console(stderr=False).print(table)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    from rich.table import Table

    table = Table.grid(padding=(0, 3))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(escaped(name), escaped(value))
    console(stderr=False).print(table)


def counted(count: int, what: str = "image") -> str:
    """A count in words: "1 image", "2 images"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
