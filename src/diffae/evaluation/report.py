"""The report: results as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffae.evaluation.paper import CLAIMED, PAPER
from diffae.evaluation.results import CLAIMS, Cell, Claim, Outcome, Table, Verdict, text
from diffae.evaluation.runner import TASKS, with_pictures
from diffae.evaluation.statistics import Estimate
from diffae.plotting import Report

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
    page.text(ABOUT_CLAIMS)
    page.table(CLAIM_HEADER, claim_rows(outcomes), words=True)
    for outcome in outcomes.values():
        _task(page, with_pictures(out, outcome), quick=quick)
    page.section("How this was made", "how")
    page.table(("", ""), facts, words=True)
    page.write(out / PAGE)


QUICK_WARNING = "Counts are small, so that it takes minutes: intervals are wide, and distances of distributions biased."


ABOUT_CLAIMS = (
    "Whether this run, with this model and these images, shows what the paper says, and if not, why. The paper's own "
    "numbers are of larger networks, which have seen 72 to 200 million images of 64 to 256 pixels."
)
CLAIM_HEADER = ("", "claim", "this run", "by", "in the paper")
_MEASURED_BY = {
    1: "variation", 2: "interpolation", 3: "reconstruction", 4: "attributes", 5: "generation", 6: "manipulation",
    7: "memorisation", 8: "out-of-distribution", 9: "detection",
}  # fmt: skip


def claim_rows(outcomes: Mapping[str, Outcome]) -> list[tuple[str, str, str, str, str]]:
    """For each claim what `CLAIM_HEADER` names."""
    made: dict[int, list[Claim]] = {number: [] for number in CLAIMS}
    for outcome in outcomes.values():
        for claim in outcome.result.claims:
            made[claim.number].append(claim)
    rows = []
    for number, claims in made.items():
        said = _together([claim.verdict for claim in claims])
        by = " ".join(map(_by, claims)) or _why_not_measured(_MEASURED_BY[number], outcomes)
        rows.append((str(number), CLAIMS[number], said, by, CLAIMED[number]))
    return rows


def _why_not_measured(task: str, outcomes: Mapping[str, Outcome]) -> str:
    if task not in outcomes:
        return f"The task {task} was not run."
    if outcomes[task].skipped:
        return f"The task {task} was left out."
    return "There was no DDIM baseline (--ddim) to compare with, or no latent prior."


def _together(verdicts: Sequence[Verdict]) -> str:
    """What several tasks say of one claim."""
    if not verdicts:
        return "not measured"
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "partly shown" if {"shown", "partly shown"} & set(verdicts) else "not decided"


def _by(claim: Claim) -> str:
    return f"{claim.evidence}. Why not: {claim.reason}." if claim.reason else f"{claim.evidence}."


def _task(page: Report, outcome: Outcome, *, quick: bool) -> None:
    task = TASKS[outcome.task]
    page.section(f"{task.title} ({task.place})", outcome.task)
    if outcome.skipped:
        page.text(f"Left out: {outcome.skipped}.")
        return
    for note in outcome.result.notes:
        page.text(note)
    for table in outcome.result.tables:
        _table(page, table, quick=quick)
    for picture in outcome.result.pictures:
        assert picture.image is not None
        page.picture(picture.image, picture.caption, width=_CHART_WIDTH if picture.chart else None)
    if outcome.task in PAPER:
        _table(page, PAPER[outcome.task], quick=False)
    page.note(f"Took {duration([outcome])}.")


def _table(page: Report, table: Table, *, quick: bool) -> None:
    page.text(f"**{table.title}**")
    page.table(table.header, [[_unbroken(cell) for cell in row] for row in table.rows])
    small = "Quick run: small counts. " if quick else ""
    page.note(f"{small}{table.note}")


def _unbroken(cell: Cell) -> str:
    """A cell whose interval, and its exponents, are not broken over lines."""
    words = text(cell)
    return words.replace(" to ", "\u00a0to\u00a0").replace("e-", "e\u2011") if isinstance(cell, Estimate) else words


def duration(outcomes: Sequence[Outcome]) -> str:
    """How long tasks took, by the clock and of the processor."""
    seconds, cpu_seconds = (sum(getattr(one, name) for one in outcomes) for name in ("seconds", "cpu_seconds"))
    return f"{_in_words(seconds)}, {_in_words(cpu_seconds)} of processor time"


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
