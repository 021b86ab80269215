"""Every built-in task on a tiny model: finite numbers, counts that are used, and what is missing named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Result, Skipped
from diffae.evaluation.runner import evaluate
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.tasks import TASK_NAMES, built_in

Run = Callable[..., Result]
SUMMARISED = {"reconstruction", "generation", "attributes", "manipulation", "memorisation", "detection"}


@pytest.mark.parametrize("name", TASK_NAMES)
def test_a_task_finds_finite_numbers_and_reads_its_counts(
    context: EvaluationContext, counts: dict[str, Any], name: str
) -> None:
    task = built_in()[name]
    outcome = evaluate(context, [task], counts=counts)[name]
    assert outcome.skipped is None
    read = {part.removeprefix("counts.") for part in outcome.parts if part.startswith("counts.")}
    assert read == {field.name for field in fields(task.counts)}
    assert outcome.result.tables
    assert (name in SUMMARISED) == bool(outcome.result.summary)
    assert "nan" not in outcome.result.summary
    for table in outcome.result.tables:
        assert table.note
        for row in table.rows:
            assert len(row) == len(table.header), table.name
            for cell in row:
                value = cell.value if isinstance(cell, Estimate) else cell
                assert not isinstance(value, float) or np.isfinite(value), (table.name, row)
                if isinstance(cell, Estimate):
                    assert cell.low <= cell.value <= cell.high or cell.count == 2
    assert {claim.number for claim in outcome.result.claims} == set(task.claims)
    for claim in outcome.result.claims:
        assert bool(claim.reason) == (claim.verdict != "shown"), claim


def test_what_is_missing_is_named(context: EvaluationContext, run: Run) -> None:
    bare = replace(
        context, features=None, perceptual=None, identity=None, ddim=None, train=replace(context.train, known={}),
        test=replace(context.test, known={}),
    )  # fmt: skip
    bare.model.prior = None
    for name, what in {
        "generation": "--features", "conditional": "--features", "manipulation": "--features", "attributes": "--labels",
        "memorisation": "train-prior",
    }.items():  # fmt: skip
        with pytest.raises(Skipped, match=what):
            run(name, bare)
    with pytest.raises(DataError, match="1 unseen images: reconstruction needs at least 2"):
        run("reconstruction", replace(context, test=context.test.first(1)))
    with pytest.raises(Skipped, match="train-prior"):
        run("generation", replace(bare, features=context.features))


def test_without_a_ddim_baseline_the_others_still_run(context: EvaluationContext, run: Run) -> None:
    for name in ("reconstruction", "denoising", "generation", "interpolation"):
        found = run(name, replace(context, ddim=None))
        # the claim about other autoencoders needs no baseline
        assert {claim.number for claim in found.claims} == ({13} if name == "reconstruction" else set())
        assert any("No DDIM baseline was given (--ddim)" in note for note in found.notes)
        assert all("DDIM" not in str(row) for table in found.tables for row in table.rows)
