"""Linear probes on z_sem and on the codes of baselines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.linear_probe import ProbeResult
from diffae.evaluation.results import Result
from diffae.evaluation.statistics import auroc
from diffae.evaluation.tasks import attributes


def test_probes_must_be_better_by_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.4).astype(float)
    labels[:20] = np.nan

    def probe(strength: float) -> ProbeResult:
        logits = rng.normal(size=400) + strength * np.nan_to_num(labels)
        known = ~np.isnan(labels)
        return ProbeResult("hat", auroc(logits[known], labels[known] == 1), 9, logits, labels)

    strengths = {"z_sem": 1.5, "pixels, at most 16 x 16": 1.5, "PCA": 0.2, "Net features": 9.0, "theirs": 9.0}
    claim = attributes._claim({name: [probe(strength)] for name, strength in strengths.items()}, 0)
    assert claim.verdict == "partly shown"
    rule = r"not significantly above pixels, at most 16 x 16 \(.0\.0\d\d, -0\.\d+ to \+0\.\d+\)$"
    assert re.match(rule, claim.reason)


def test_a_rare_attribute_does_not_take_the_others_with_it(
    context: EvaluationContext, run: Callable[..., Result]
) -> None:
    rare = (np.arange(48) < 2).astype(float)
    test = replace(context.test, known={**context.test.known, "rare": rare})
    train = replace(context.train, known={**context.train.known, "rare": np.arange(120) % 2.0})
    found = run("attributes", replace(context, train=train, test=test))
    assert [line[0] for line in found.tables[0].rows] == ["red", "average, by positives", "average, plain"]
    assert "Left out, because too few images are labelled: rare." in found.notes
