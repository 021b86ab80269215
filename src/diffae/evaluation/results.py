"""The result of a task: tables, pictures and verdicts on the paper's claims, which results.json stores and restores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from diffae.errors import DiffaeError
from diffae.evaluation.statistics import Estimate

Cell = str | int | float | Estimate | None
Verdict = Literal["shown", "partly shown", "not shown", "not decided"]


class Skipped(DiffaeError):
    """A task cannot run because an input is missing. The message names the input and the option that gives it."""


@dataclass(frozen=True)
class Table:
    """Rows of names and numbers."""

    name: str
    """Part of the CSV's file name."""
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """What the numbers mean, and how reliable they are."""


@dataclass(frozen=True)
class Picture:
    """A picture, stored as a PNG file beside results.json."""

    name: str
    """Part of the PNG's file name."""
    caption: str
    image: Image.Image | None = None
    """None when it was restored from results.json: read the file."""
    chart: bool = False
    """Whether it is a plot, which shows none of the images."""


@dataclass(frozen=True)
class Claim:
    """Whether this run shows one of the paper's claims, and by which numbers."""

    number: int
    verdict: Verdict
    evidence: str
    reason: str = ""
    """Where the claim is not shown, or only in part: why, as far as these numbers can say."""


@dataclass(frozen=True)
class Result:
    """What a task returns."""

    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()
    """Paragraphs: what was compared with what, what was left out and why."""
    summary: str = ""
    """One or two sentences, with which the report begins: what the numbers say of the model."""


@dataclass(frozen=True)
class Outcome:
    """One task of an evaluation: its result, or why it was skipped."""

    task: str
    parts: Mapping[str, str]
    """What the result depends on: the parts and counts that the task read, each with a hash of its content."""
    seconds: float = 0.0
    """Wall-clock time."""
    cpu_seconds: float = 0.0
    """Processor time, summed over cores."""
    result: Result = field(default_factory=Result)
    skipped: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values; pictures lose their pixels."""
        times = {"seconds": round(self.seconds, 1), "cpu_seconds": round(self.cpu_seconds, 1)}
        facts = {"parts": dict(self.parts), **times}
        if self.skipped:
            return {**facts, "skipped": self.skipped}
        pictures = [{"name": p.name, "caption": p.caption, "chart": p.chart} for p in self.result.pictures]
        return {**facts, **asdict(replace(self.result, pictures=())), "pictures": pictures}

    @classmethod
    def from_json(cls, task: str, plain: Mapping[str, Any]) -> Outcome:
        """Restore what `to_json` returned.

        Raises:
            KeyError, TypeError: it is something else.
        """
        facts = (task, plain.get("parts", {}), plain["seconds"], plain["cpu_seconds"])  # version 0.1 had one key
        if "skipped" in plain:
            return cls(*facts, skipped=plain["skipped"])
        tables = tuple(_table(table) for table in plain["tables"])
        pictures = tuple(Picture(**picture) for picture in plain["pictures"])
        claims = tuple(Claim(**claim) for claim in plain["claims"])
        return cls(*facts, Result(tables, pictures, claims, tuple(plain["notes"]), plain.get("summary", "")))


def _table(plain: Mapping[str, Any]) -> Table:
    rows = tuple(tuple(Estimate(**cell) if isinstance(cell, dict) else cell for cell in row) for row in plain["rows"])
    return Table(plain["name"], plain["title"], tuple(plain["header"]), rows, plain["note"])


def picture_path(out: Path, task: str, name: str) -> Path:
    """File of a task's picture in the folder of a report."""
    return out / f"{task}-{name}.png"


def verdict(*holds: bool | None) -> Verdict:
    """Combine the parts of a claim, such as attributes or numbers of steps; None where a part may be chance."""
    if any(holds):
        return "shown" if all(holds) else "partly shown"
    return "not decided" if None in holds else "not shown"


def graded(value: float, grades: Sequence[tuple[float, str]], otherwise: str) -> str:
    """The words beside the first bound that a value reaches, from the highest bound down."""
    return next((words for bound, words in grades if value >= bound), otherwise)


def text(cell: Cell) -> str:
    """Format a cell: four digits, and an interval behind a number that has one."""
    if isinstance(cell, Estimate):
        return f"{_number(cell.value)} ({_number(cell.low)} to {_number(cell.high)})"
    if isinstance(cell, float):
        return _number(cell)
    return f"{cell:,}" if isinstance(cell, int) else cell or ""


def _number(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 4 if abs(value) <= 1 else max(0, 4 - len(str(int(abs(value)))))
        return f"{value:,.{digits}f}"
    return f"{value:.2e}"


def csv_rows(table: Table) -> list[list[str]]:
    """Header and rows for a CSV; a column with intervals becomes four: value, low, high, count."""
    columns = range(len(table.header))
    widths = [4 if any(isinstance(row[place], Estimate) for row in table.rows) else 1 for place in columns]
    rows = [[(name, f"{name} low", f"{name} high", f"{name} count") for name in table.header]]
    rows += [[_csv_cells(cell) for cell in row] for row in table.rows]
    return [[part for cell, width in zip(row, widths, strict=True) for part in cell[:width]] for row in rows]


def _csv_cells(cell: Cell) -> tuple[str, str, str, str]:
    if isinstance(cell, Estimate):
        return repr(cell.value), repr(cell.low), repr(cell.high), str(cell.count)
    return "" if cell is None else str(cell), "", "", ""


def listed(names: Sequence[str]) -> str:
    """Join names as "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
