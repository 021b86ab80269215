"""The report of an evaluation as an HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from diffae.evaluation.paper import CLAIMED, tables_of
from diffae.evaluation.results import Cell, Claim, Outcome, Table, Verdict, listed, picture_path, text
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.task import Task
from diffae.evaluation.tasks import built_in
from diffae.page import Page

PAGE = "index.html"
QUICK_WARNING = "Counts are small, so that it takes minutes: intervals are wide, and distances of distributions biased."
ABOUT_CLAIMS = (
    "Whether this run, with this model and these images, shows what the paper claims, and if not, why. The paper's own "
    "numbers are of larger networks, trained on 48 to 130 million images of 64 to 256 pixels (Table 5)."
)
CLAIM_HEADER = ("", "claim", "this run", "evidence", "in the paper")

UNMEASURED = "not measured"
OPENING = ("reconstruction", "generation", "manipulation")
"""Tasks whose first picture stands at the top of the page, where they were run."""

_NOT_RUN = "was not run."
_CHART_WIDTH = 720


@dataclass(frozen=True)
class Heading:
    """What a report says about its evaluation, besides the outcomes."""

    title: str
    lead: str
    """First paragraph."""
    facts: Sequence[tuple[str, str]]
    """What was measured on what, as (name, value)."""
    quick: bool
    """Whether counts were small; stated at the top and below every table."""


def write_page(
    out: Path, heading: Heading, outcomes: Mapping[str, Outcome], tasks: Mapping[str, Task] | None = None
) -> None:
    """Write the report of an evaluation, index.html.

    Args:
        out: the report's folder, which holds the pictures.
        heading: title, first paragraph and facts.
        outcomes: by the name of their task.
        tasks: by name; the built-in ones when None.
    """
    tasks = tasks or built_in()
    page = Page(heading.title, heading.lead)
    if heading.quick:
        page.text(f"**Quick run.** {QUICK_WARNING}")
    _opening(page, out, outcomes)
    page.contents([(name, tasks[name].title) for name in outcomes])
    page.section("The paper's claims", "claims")
    page.text(ABOUT_CLAIMS)
    measured, others = measured_claims(outcomes, tasks)
    if measured:
        page.table(CLAIM_HEADER, measured, words=True)
    if others:
        page.text(others)
    for name, outcome in outcomes.items():
        page.section(f"{tasks[name].title} ({tasks[name].place})", name)
        _outcome(page, out, outcome, quick=heading.quick)
    page.section("How this was made", "how")
    page.table(("", ""), heading.facts, words=True)
    page.write(out / PAGE)


def _opening(page: Page, out: Path, outcomes: Mapping[str, Outcome]) -> None:
    """What the model is good at: pictures, and a sentence of each task that has one."""
    if sentences := summary_of(outcomes):
        page.section("In short", "summary")
        page.bullets(sentences)
    for name in OPENING:
        if name in outcomes and (shown := outcomes[name].result.pictures):
            with Image.open(picture_path(out, name, shown[0].name)) as image:
                page.picture(image, shown[0].caption)


def claim_rows(
    outcomes: Mapping[str, Outcome], tasks: Mapping[str, Task] | None = None
) -> list[tuple[str, str, str, str, str]]:
    """One row for each claim of the tasks (the built-in ones when None), in the columns of `CLAIM_HEADER`."""
    tasks = tasks or built_in()
    statements = {number: said for task in tasks.values() for number, said in task.claims.items()}
    rows = []
    for number in sorted(statements):
        claims = [claim for one in outcomes.values() for claim in one.result.claims if claim.number == number]
        deciding = [name for name, task in tasks.items() if number in task.claims]
        evidence = " ".join(map(_evidence, claims)) or _why_not_measured(deciding, outcomes)
        verdict = _together([claim.verdict for claim in claims])
        rows.append((str(number), statements[number], verdict, evidence, CLAIMED.get(number, "")))
    return rows


def measured_claims(
    outcomes: Mapping[str, Outcome], tasks: Mapping[str, Task] | None = None
) -> tuple[list[tuple[str, str, str, str, str]], str]:
    """The rows of `claim_rows` that this run measured, and a line about the others, empty where there are none."""
    rows = claim_rows(outcomes, tasks)
    others = [row for row in rows if row[2] == UNMEASURED]
    reasons = dict.fromkeys(row[3] for row in others if not row[3].endswith(_NOT_RUN))
    line = f"Not measured: claim{'s' * (len(others) > 1)} {listed([row[0] for row in others])}." if others else ""
    return [row for row in rows if row[2] != UNMEASURED], " ".join([line, *reasons]).strip()


def summary_of(outcomes: Mapping[str, Outcome]) -> list[str]:
    """What each task says of the model, where it says something."""
    return [one.result.summary for one in outcomes.values() if one.result.summary]


def _why_not_measured(tasks: Sequence[str], outcomes: Mapping[str, Outcome]) -> str:
    run = [name for name in tasks if name in outcomes]
    if not run:
        return f"The task {tasks[-1]} {_NOT_RUN}"
    if all(outcomes[name].skipped for name in run):
        return f"The task {run[-1]} was left out."
    return f"The task {run[-1]} had too little to compare, for instance no DDIM baseline (--ddim) or no latent prior."


def _together(verdicts: Sequence[Verdict]) -> str:
    """The verdict of several tasks on one claim."""
    if not verdicts:
        return UNMEASURED
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "partly shown" if {"shown", "partly shown"} & set(verdicts) else "not decided"


def _evidence(claim: Claim) -> str:
    return f"{claim.evidence}. Why not: {claim.reason}." if claim.reason else f"{claim.evidence}."


def _outcome(page: Page, out: Path, outcome: Outcome, *, quick: bool) -> None:
    if outcome.skipped:
        page.text(f"Left out: {outcome.skipped}.")
        return
    for note in outcome.result.notes:
        page.text(note)
    for table in outcome.result.tables:
        _table(page, table, quick=quick)
    for picture in outcome.result.pictures:
        with Image.open(picture_path(out, outcome.task, picture.name)) as image:
            page.picture(image, picture.caption, width=_CHART_WIDTH if picture.chart else None)
    for table in tables_of(outcome.task):
        _table(page, table, quick=False)
    page.text(f"Took {duration([outcome])}.", small=True)


def _table(page: Page, table: Table, *, quick: bool) -> None:
    page.text(f"**{table.title}**")
    page.table(table.header, [[_unbroken(cell) for cell in row] for row in table.rows])
    page.text(f"{'Quick run: small counts. ' if quick else ''}{table.note}", small=True)


def _unbroken(cell: Cell) -> str:
    """A cell whose interval, and its exponents, are not broken over lines."""
    words = text(cell)
    return words.replace(" to ", "\u00a0to\u00a0").replace("e-", "e\u2011") if isinstance(cell, Estimate) else words


def duration(outcomes: Sequence[Outcome]) -> str:
    """Wall-clock and processor time of tasks, in words."""
    seconds, cpu_seconds = (sum(getattr(one, name) for one in outcomes) for name in ("seconds", "cpu_seconds"))
    return f"{_in_words(seconds)}, {_in_words(cpu_seconds)} of processor time"


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
