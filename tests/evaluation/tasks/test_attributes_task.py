"""Linear probes on z_sem and on the codes of baselines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from diffae.evaluation import linear_probe
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.linear_probe import ProbeResult
from diffae.evaluation.results import Result
from diffae.evaluation.statistics import auroc
from diffae.evaluation.tasks import attributes
from diffae.training.settings import TrainingConfig


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


def test_baselines_that_saw_fewer_images_than_the_model_decide_nothing(
    context: EvaluationContext, run: Callable[..., Result]
) -> None:
    """After 1,600 images, an autoencoder used to count as one that z_sem is better than."""
    short, equal = context, replace(context, trained=TrainingConfig(images=8), out=context.out / "equal")
    for other, names in ((short, {"autoencoder, undertrained", "VAE, undertrained"}), (equal, {"autoencoder", "VAE"})):
        found = run("attributes", other)
        assert names <= set(found.tables[0].header)
        assert ("autoencoder" in found.claims[0].evidence) == (other is equal)
        assert any("no claim counts them" in note for note in found.notes) == (other is short)
    assert "saw 8 images in training, the model 8." in " ".join(found.notes)


def test_the_papers_classifier_stands_beside_ours_and_decides_by_its_protocol(
    context: EvaluationContext, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EvaluationContext, "baselines", lambda *counts: ())
    by_adam: list[int] = []
    own = linear_probe.fit_adam
    monkeypatch.setattr(linear_probe, "fit_adam", lambda x, y: by_adam.append(x.shape[1]) or own(x, y))
    assert "z_sem, the paper's classifier" in run("attributes").tables[0].header
    assert by_adam == [6]
    by_adam.clear()
    header = run("attributes", replace(context, protocol="paper", out=context.out / "paper")).tables[0].header
    assert "z_sem, cross-validated classifier" in header
    assert len(by_adam) == len(header) - 3  # all codes but that one
