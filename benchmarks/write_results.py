"""Write a page of docs/experiments from evaluations: tables, verdicts, command lines, seeds and times.

    python benchmarks/write_results.py REPORT [REPORT ...] [--with-images REPORT ...] --out docs/experiments/PAGE.md

REPORT is a folder made by `diffae evaluate`. Its numbers are copied beside the page, as REPORT-results.json without the
folders of this machine, and its charts into images/. Pictures that show images
are copied only for the reports named again by --with-images, those of drawn faces: photographs of people do not belong
in a repository.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffae.evaluation.paper import tables_of
from diffae.evaluation.report import ABOUT_CLAIMS, CLAIM_HEADER, QUICK_WARNING, claim_rows, duration
from diffae.evaluation.results import Outcome, Table, picture_path, text
from diffae.evaluation.runner import RESULTS
from diffae.evaluation.tasks import TASK_NAMES, built_in

_FACTS = (
    "command", "protocol", "seed", "machine", "model", "network", "images of training", "unseen images",
    "binary labels", "feature network", "perceptual distance", "identity network", "backbone of the detector",
    "DDIM baseline", "counts",
)  # fmt: skip
_FOLDERS = re.compile(r"(?<![\w./])/(?:[\w.+-]+/)+")
"""Folders before the names of files: those of one machine, of no use to readers."""


def main() -> None:
    """Read the reports and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--with-images", type=Path, nargs="+", default=[])
    arguments = parser.parse_args()
    if not set(arguments.with_images) <= set(arguments.reports):
        parser.error("--with-images takes only reports that are also named before it")
    evaluations = [Evaluation.read(report) for report in arguments.reports]
    parts = [
        "# Results",
        "",
        "Made by `diffae evaluate` and `benchmarks/write_results.py`; no number is typed by hand. FD and KD are the "
        "Frechet and the kernel distance between features of images, SSIM and PSNR measure similarity, and AUROC "
        "measures how well a label is predicted. [evaluation.md](evaluation.md) describes each task, and how numbers "
        "and verdicts are computed.",
        "",
        *summary(evaluations),
    ]
    for evaluation in evaluations:
        parts += section(evaluation, arguments.out, with_images=evaluation.folder in arguments.with_images)
    page = _FOLDERS.sub("", "\n".join(parts) + "\n")
    arguments.out.write_text(page, encoding="utf-8")
    for evaluation in evaluations:
        numbers = (evaluation.folder / RESULTS).read_text(encoding="utf-8")
        evaluation.numbers(arguments.out).write_text(_FOLDERS.sub("", numbers), encoding="utf-8")


@dataclass(frozen=True)
class Evaluation:
    """The contents of results.json."""

    folder: Path
    about: dict[str, Any]
    outcomes: dict[str, Outcome]

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """Read the folder of a report."""
        about = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        tasks = about.pop("tasks")
        return cls(folder, about, {name: Outcome.from_json(name, tasks[name]) for name in TASK_NAMES if name in tasks})

    def numbers(self, page: Path) -> Path:
        """Where results.json, which holds no image, is copied to beside a page."""
        return page.parent / f"{self.folder.name}-{RESULTS}"

    @property
    def name(self) -> str:
        """Of the run."""
        return self.about["model"].split(",")[0]


def summary(evaluations: list[Evaluation]) -> list[str]:
    """A table of the claims, and of whether each run shows them."""
    found = [claim_rows(evaluation.outcomes) for evaluation in evaluations]
    rows = [(*rows[0][:2], *(row[2] for row in rows)) for rows in zip(*found, strict=True)]
    return [ABOUT_CLAIMS, "", *markdown(("", "claim", *(evaluation.name for evaluation in evaluations)), rows)]


def section(evaluation: Evaluation, out: Path, *, with_images: bool) -> list[str]:
    """One evaluation, as lines of Markdown."""
    outcomes, facts = evaluation.outcomes, dict(evaluation.about)
    lines = [f"## {evaluation.name}", ""]
    if facts["quick"]:
        lines += [f"**Quick run.** {QUICK_WARNING}", ""]
    facts["command"] = f"`{facts['command']}`"
    lines += markdown(("", ""), [(name, facts[name]) for name in _FACTS if name in facts])
    numbers = evaluation.numbers(out).name
    lines += [f"All tasks together took {duration(list(outcomes.values()))}. Every number: [{numbers}]({numbers}).", ""]
    lines += ["### The paper's claims", "", *markdown(CLAIM_HEADER, claim_rows(outcomes))]
    for outcome in outcomes.values():
        lines += _task(evaluation.folder, out, outcome, with_images=with_images)
    return lines


def _task(report: Path, out: Path, outcome: Outcome, *, with_images: bool) -> list[str]:
    task = built_in()[outcome.task]
    lines = [f"### {task.title} ({task.place})", ""]
    if outcome.skipped:
        return [*lines, f"Left out: {outcome.skipped}.", ""]
    for note in outcome.result.notes:
        lines += [note, ""]
    for table in (*outcome.result.tables, *tables_of(outcome.task)):
        lines += _table(table)
    for picture in outcome.result.pictures:
        if picture.chart or with_images:
            name = f"{report.name}-{outcome.task}-{picture.name}.png"
            (out.parent / "images").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture_path(report, outcome.task, picture.name), out.parent / "images" / name)
            lines += [f"![{picture.caption}](images/{name})", ""]
    return [*lines, f"Took {duration([outcome])}.", ""]


def _table(table: Table) -> list[str]:
    rows = [map(text, row) for row in table.rows]
    return [f"**{table.title}**", "", *markdown(table.header, rows), *([table.note, ""] if table.note else [])]


def markdown(header: Any, rows: Any) -> list[str]:
    """A table in Markdown."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    first, *others = (f"| {' | '.join(row)} |" for row in cells)
    return [first, f"|{'---|' * len(header)}", *others, ""]


if __name__ == "__main__":
    main()
