"""Write docs/results.md from evaluations: tables, verdicts, command lines, seeds and times.

    python benchmarks/write_results.py REPORT [REPORT ...] --out docs/results.md [--with-images]

REPORT is a folder made by `diffae evaluate`. Charts are copied beside the page, into images/; pictures that show images
only with --with-images, which is meant for drawn faces: photographs of people have no place in a repository.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

from diffae.suite import TASK_NAMES
from diffae.suite.findings import Outcome, Table, text
from diffae.suite.page import QUICK_WARNING, claim_rows, duration
from diffae.suite.paper import PAPER
from diffae.suite.running import RESULTS, TASKS, picture_path

_FACTS = ("command", "seed", "machine", "model", "images of training", "unseen images", "binary labels",
          "feature network", "identity network", "DDIM baseline")  # fmt: skip


_FOLDERS = re.compile(r"(?<![\w./])/(?:[\w.+-]+/)+")
"""Folders of one machine, before the names of files: they are of no use to readers."""


def main() -> None:
    """Read the reports, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--with-images", action="store_true")
    arguments = parser.parse_args()
    parts = [
        "# Results",
        "",
        "Made by `diffae evaluate` and `benchmarks/write_results.py`; no number is typed by hand.",
        "",
    ]
    for report in arguments.reports:
        parts += section(report, arguments.out, with_images=arguments.with_images)
    page = _FOLDERS.sub("", "\n".join(parts) + "\n")
    arguments.out.write_text(page, encoding="utf-8")


def section(report: Path, out: Path, *, with_images: bool) -> list[str]:
    """One evaluation as lines of Markdown."""
    plain = json.loads((report / RESULTS).read_text(encoding="utf-8"))
    outcomes = {name: Outcome.from_json(name, plain["tasks"][name]) for name in TASK_NAMES if name in plain["tasks"]}
    lines = [f"## {plain['model'].split(',')[0]}", ""]
    if plain["quick"]:
        lines += [f"**Quick run.** {QUICK_WARNING}", ""]
    lines += markdown(("", ""), [(name, _code(name, plain[name])) for name in _FACTS if name in plain])
    total = sum(outcome.seconds for outcome in outcomes.values())
    lines += [f"All tasks together took {duration(total)}.", "", "### The paper's claims", ""]
    lines += markdown(("", "claim", "this run", "by"), claim_rows(outcomes))
    for outcome in outcomes.values():
        lines += _task(report, out, outcome, with_images=with_images)
    return lines


def _task(report: Path, out: Path, outcome: Outcome, *, with_images: bool) -> list[str]:
    task = TASKS[outcome.task]
    lines = [f"### {task.title} ({task.place})", ""]
    if outcome.skipped:
        return [*lines, f"Left out: {outcome.skipped}.", ""]
    for note in outcome.findings.notes:
        lines += [note, ""]
    for table in (*outcome.findings.tables, *([PAPER[outcome.task]] if outcome.task in PAPER else [])):
        lines += _table(table)
    for picture in outcome.findings.pictures:
        if picture.chart or with_images:
            name = f"{report.name}-{outcome.task}-{picture.name}.png"
            (out.parent / "images").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture_path(report, outcome.task, picture.name), out.parent / "images" / name)
            lines += [f"![{picture.caption}](images/{name})", ""]
    return [*lines, f"Took {duration(outcome.seconds)}.", ""]


def _table(table: Table) -> list[str]:
    rows = [[text(cell) for cell in row] for row in table.rows]
    return [f"**{table.title}**", "", *markdown(table.header, rows), *([table.note, ""] if table.note else [])]


def markdown(header: Any, rows: Any) -> list[str]:
    """A table of texts."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    first, *others = (f"| {' | '.join(row)} |" for row in cells)
    return [first, f"|{'---|' * len(header)}", *others, ""]


def _code(name: str, value: str) -> str:
    return f"`{value}`" if name == "command" else value


if __name__ == "__main__":
    main()
