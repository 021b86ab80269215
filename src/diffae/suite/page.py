"""The report: results as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffae.report import Report
from diffae.suite.findings import CLAIMS, Claim, Outcome, Table, text
from diffae.suite.paper import PAPER
from diffae.suite.running import TASKS, with_pictures

PAGE = "index.html"

_CHART_WIDTH = 720


def write_page(out: Path, title: str, lead: str, facts: Sequence[tuple[str, str]], outcomes: Mapping[str, Outcome],
               *, quick: bool) -> None:  # fmt: skip
    """Write index.html from what was found.

    Args:
        out: the report's folder, with the pictures.
        title, lead: what stands at its top.
        facts: what was measured on what, as (name, value).
        outcomes: of each task.
        quick: whether counts were small: said at the top and on every table.
    """
    page = Report(title, lead)
    if quick:
        page.text(f"**Quick run.** {QUICK_WARNING}")
    page.contents([(name, TASKS[name].title) for name in outcomes])
    page.section("The paper's claims", "claims")
    page.text("Whether this run, with this model and these images, shows what the paper says.")
    page.table(("", "claim", "this run", "by"), claim_rows(outcomes), words=True)
    for outcome in outcomes.values():
        _task(page, with_pictures(out, outcome), quick=quick)
    page.section("How this was made", "how")
    page.table(("", ""), facts, words=True)
    page.write(out / PAGE)


QUICK_WARNING = "Counts are small, so that it takes minutes: intervals are wide, and distances of distributions biased."


def claim_rows(outcomes: Mapping[str, Outcome]) -> list[tuple[str, str, str, str]]:
    """For each claim: number, words, verdict, evidence."""
    made: dict[int, list[Claim]] = {number: [] for number in CLAIMS}
    for outcome in outcomes.values():
        for claim in outcome.findings.claims:
            made[claim.number].append(claim)
    rows = []
    for number, claims in made.items():
        words = {claim.verdict for claim in claims}
        said = "not measured" if not words else words.pop() if len(words) == 1 else "partly shown"
        rows.append((str(number), CLAIMS[number], said, "; ".join(claim.evidence for claim in claims)))
    return rows


def _task(page: Report, outcome: Outcome, *, quick: bool) -> None:
    task = TASKS[outcome.task]
    page.section(f"{task.title} ({task.place})", outcome.task)
    if outcome.skipped:
        page.text(f"Left out: {outcome.skipped}.")
        return
    for note in outcome.findings.notes:
        page.text(note)
    for table in outcome.findings.tables:
        _table(page, table, quick=quick)
    for picture in outcome.findings.pictures:
        assert picture.image is not None
        page.picture(picture.image, picture.caption, width=_CHART_WIDTH if picture.chart else None)
    if outcome.task in PAPER:
        _table(page, PAPER[outcome.task], quick=False)
    page.note(f"Took {duration(outcome.seconds)}.")


def _table(page: Report, table: Table, *, quick: bool) -> None:
    page.text(f"**{table.title}**")
    # an interval is not broken over lines
    page.table(table.header, [[text(cell).replace(" to ", "\u00a0to\u00a0") for cell in row] for row in table.rows])
    small = "Quick run: small counts. " if quick else ""
    page.note(f"{small}{table.note}")


def duration(seconds: float) -> str:
    """In words."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
