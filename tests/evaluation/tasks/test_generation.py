"""Samples compared with real images, and with those of DDIM with more steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Claim, Result
from diffae.evaluation.tasks import generation
from diffae.evaluation.tasks.shared import distances
from diffae.latent.prior import LatentPrior


def test_fewer_steps_are_needed_only_where_samples_are_nearer() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 3))

    def claims(ours: float, ddim: float) -> tuple[Claim, ...]:
        made = {(generation._OURS, 10): rng.normal(ours, 1, (200, 3)), ("DDIM", 20): rng.normal(ddim, 1, (200, 3))}
        others = {(generation._OURS, 20): real, ("DDIM", 10): real, ("ours, z_sem of real images", 10): real}
        return generation._claims(real, {**made, **others}, 0)

    assert [claims(*means)[0].verdict for means in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5))] == [
        "shown", "not shown", "not decided",
    ]  # fmt: skip
    assert generation._claims(real, {(generation._OURS, 10): real, (generation._OURS, 20): real}, 0) == ()


def test_the_prior_is_sampled_in_its_own_steps_and_in_those_of_the_decoder(
    context: EvaluationContext, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's Table 4 applies T to both networks; the prior used to be sampled in 100 steps only."""
    steps: list[int] = []
    own = LatentPrior.sample
    monkeypatch.setattr(LatentPrior, "sample", lambda *a, **how: steps.append(how["steps"]) or own(*a, **how))
    found = run("generation")
    assert steps == [100, 1, 2]
    names = ["DDIM", "ours, prior T = 100", "ours, prior with the same T", "ours, z_sem of real images"]
    assert [row[0] for row in found.tables[0].rows] == names


def test_samples_of_the_same_distribution_are_near(context: EvaluationContext) -> None:
    features = context.need_features()
    one, other = (features.vectors(context.train.tensor()[rows]) for rows in (slice(60), slice(60, None)))
    far, near = distances(one, other + 1), distances(one, other)
    assert near[1].low < 0.01 < far[1].low
    assert dataclasses.astuple(near[0]) < dataclasses.astuple(far[0])
