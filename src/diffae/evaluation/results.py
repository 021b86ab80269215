"""What a task found: tables, pictures and verdicts, as plain values that go into results.json and come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from PIL import Image

from diffae.errors import DiffaeError
from diffae.evaluation.statistics import Estimate

Cell = str | int | float | Estimate | None
Verdict = Literal["shown", "partly shown", "not shown", "not decided"]

CLAIMS = {
    1: "x_T changes details only",
    2: "Interpolating z_sem is smoother than interpolating DDIM's x_T",
    3: "Reconstruction beats DDIM at equal T, and T = 20 beats DDIM's T = 100",
    4: "z_sem tells a linear classifier more than the baselines do",
    5: "Fewer steps are needed than by DDIM",
    6: "Edited images move toward those that have the attribute, and stay near those they came from",
    7: "The model does not memorise its training images",
    8: "x_T of foreign images is not normal",
    9: "Generated images are told from real ones in more than 90 % of the cases",
}
"""What the paper says of diffusion autoencoders, and an evaluation can find for a model or not."""


class Skipped(DiffaeError):
    """A task cannot run because something it needs was not given; says what, and how to give it."""


@dataclass(frozen=True)
class Table:
    """Rows of names and numbers."""

    name: str
    """Part of the CSV's file name."""
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """What the numbers mean, and how far to trust them."""


@dataclass(frozen=True)
class Picture:
    """Something to look at; its pixels are in a PNG file beside results.json."""

    name: str
    """Part of the PNG's file name."""
    caption: str
    image: Image.Image | None = None
    """None when it was read back: the file has it."""
    chart: bool = False
    """Curves or bars: shows none of the images."""


@dataclass(frozen=True)
class Claim:
    """Whether this run shows one of the paper's claims, and by which numbers."""

    number: int
    verdict: Verdict
    evidence: str
    reason: str = ""
    """Where it does not show, or not wholly: why, as far as this run's numbers tell."""


@dataclass(frozen=True)
class Result:
    """All that a task found."""

    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()
    """Paragraphs: what was compared with what, what was left out and why."""


@dataclass(frozen=True)
class Outcome:
    """One task of an evaluation: what it found, or why it was left out."""

    task: str
    key: str
    """Changes with whatever the findings depend on."""
    seconds: float = 0.0
    """By the clock."""
    cpu_seconds: float = 0.0
    """Of the processor, all cores added up: what it costs on a machine that does other things too."""
    result: Result = field(default_factory=Result)
    skipped: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; pictures without their pixels."""
        found = self.result
        plain = asdict(Result(found.tables, (), found.claims, found.notes))
        plain["pictures"] = [{"name": p.name, "caption": p.caption, "chart": p.chart} for p in found.pictures]
        facts = {"key": self.key, "seconds": round(self.seconds, 1), "cpu_seconds": round(self.cpu_seconds, 1)}
        return {**facts, **({"skipped": self.skipped} if self.skipped else plain)}

    @classmethod
    def from_json(cls, task: str, plain: Mapping[str, Any]) -> Outcome:
        """What `to_json` made.

        Raises:
            KeyError, TypeError: something else.
        """
        facts = (task, plain["key"], plain["seconds"], plain["cpu_seconds"])
        if "skipped" in plain:
            return cls(*facts, skipped=plain["skipped"])
        tables = tuple(_table(table) for table in plain["tables"])
        pictures = tuple(Picture(p["name"], p["caption"], chart=p["chart"]) for p in plain["pictures"])
        claims = tuple(Claim(**claim) for claim in plain["claims"])
        return cls(*facts, Result(tables, pictures, claims, tuple(plain["notes"])))


def verdict(*holds: bool | None) -> Verdict:
    """In a word, of all that a claim says: attributes, steps, or kinds of images; None where it may be chance."""
    if any(holds):
        return "shown" if all(holds) else "partly shown"
    return "not decided" if None in holds else "not shown"


def text(cell: Cell) -> str:
    """A cell as people read it: four digits, an interval behind a number that has one."""
    if isinstance(cell, Estimate):
        return f"{_number(cell.value)} ({_number(cell.low)} to {_number(cell.high)})"
    if cell is None:
        return ""
    return _number(cell) if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell


def csv_rows(table: Table) -> list[list[str]]:
    """Header and rows for a CSV; columns with intervals become four: value, low, high, count."""
    wide = [any(isinstance(row[place], Estimate) for row in table.rows) for place in range(len(table.header))]
    header: list[str] = []
    for name, several in zip(table.header, wide, strict=True):
        header += [name, f"{name} low", f"{name} high", f"{name} count"] if several else [name]
    lines = [header]
    for row in table.rows:
        line: list[str] = []
        for cell, several in zip(row, wide, strict=True):
            if isinstance(cell, Estimate):
                line += [repr(cell.value), repr(cell.low), repr(cell.high), str(cell.count)]
            else:
                line += ["" if cell is None else str(cell), *([""] * 3 if several else [])]
        lines.append(line)
    return lines


def _table(plain: Mapping[str, Any]) -> Table:
    rows = tuple(tuple(_cell(cell) for cell in row) for row in plain["rows"])
    return Table(plain["name"], plain["title"], tuple(plain["header"]), rows, plain["note"])


def _cell(plain: Any) -> Cell:
    return Estimate(**plain) if isinstance(plain, dict) else plain


def _number(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 4 if abs(value) <= 1 else max(0, 4 - len(str(int(abs(value)))))
        return f"{value:,.{digits}f}"
    return f"{value:.2e}"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
