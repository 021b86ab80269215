"""Few-shot samples of named classes and their complements, beside all real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import frechet, kernel
from diffae.evaluation.paper import CLAIMED, PAPER
from diffae.evaluation.results import Claim, Result
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.tasks import conditional
from diffae.evaluation.tasks.conditional import Sampled
from diffae.latent.prior import LatentPrior


@pytest.fixture
def two(context: EvaluationContext) -> EvaluationContext:
    """The context with a second attribute, whose positives are every third image."""
    train, test = (
        replace(images, known={**images.known, "round": (np.arange(len(images)) % 3 > 0).astype(float)})
        for images in (context.train, context.test)
    )
    return replace(context, train=train, test=test)


def test_every_class_has_its_complement(two: EvaluationContext, counts: dict[str, Any]) -> None:
    """The paper samples Male and Female, Blond and Non-Blond; only the first attribute had its complement."""
    own = counts["conditional"]
    assert conditional._classes(two, own) == ([("red", 1), ("red", 0)], [])
    assert conditional._classes(two, replace(own, classes=2))[1] == ["not round"]  # 16 unseen images
    chosen = replace(two, attributes=("round",))
    assert conditional._classes(chosen, own) == ([("round", 1)], ["not round"])


def test_naive_is_the_distance_of_all_real_images(two: EvaluationContext, run: Callable[..., Result]) -> None:
    """Naive used to be unconditional samples of the model; in the paper it is all images of the data set."""
    found = run("conditional", two)
    network = two.need_features()
    every, red = (network.vectors(images.tensor()) for images in (two.test, two.test.having("red", 1)))
    row = found.tables[0].rows[0]
    assert row[0] == "red"
    assert row[5:] == pytest.approx((frechet(red, every), kernel(red, every[:24])))
    assert "Naive: all 48 unseen images" in found.tables[0].note


def test_the_papers_protocol_takes_images_of_the_data_set_and_the_decoders_steps(
    two: EvaluationContext, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    own = LatentPrior.sample
    monkeypatch.setattr(LatentPrior, "sample", lambda *a, **how: steps.append(how["steps"]) or own(*a, **how))
    note = run("conditional", replace(two, protocol="paper", attributes=("red",))).tables[0].note
    assert set(steps) == {2}
    assert "all 120 images of training" in note
    assert "T = 2, of the prior 2." in note


def test_samples_must_be_nearer_by_more_than_chance() -> None:
    def claim(*gains: tuple[float, float, float]) -> Claim:
        return conditional._claim(
            {(f"class {n}", "binary"): Sampled([], Estimate(*gain, 9)) for n, gain in enumerate(gains)}
        )

    near, far, unclear = (1.0, 0.5, 1.5), (-1.0, -1.5, -0.5), (0.1, -0.5, 0.7)
    assert claim(near, near).verdict == "shown"
    assert claim(near, far).verdict == "partly shown"
    assert claim(far, unclear).verdict == "not decided"
    assert claim(near, far).reason == "not significantly nearer for class 1 (binary)"


def test_the_claim_holds_in_the_papers_own_table() -> None:
    rows = [[float(cell.split(" ")[0]) for cell in map(str, row[2:])] for row in PAPER["3"].rows]
    naive, d2c = (sum(ours < row[place] for ours, *row in rows) for place in (1, 0))
    assert (
        CLAIMED[11] == f"FID below naive in {naive} of {len(rows)} cells of Table 3, below D2C in {d2c} of {len(rows)}"
    )
