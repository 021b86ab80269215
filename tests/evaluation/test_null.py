"""Where nothing is to be found, a verdict of "shown" comes by chance in at most one run of twenty.

Each rule that decides a claim is given numbers in which the claim is false, 200 times: an edit that does nothing, a
prior that copies, labels drawn at random, a baseline as good as the model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from diffae.evaluation.linear_probe import ProbeResult
from diffae.evaluation.results import Claim
from diffae.evaluation.statistics import Estimate, auroc, mean, proportion
from diffae.evaluation.tasks import (
    attributes,
    capacity,
    conditional,
    detection,
    generation,
    interpolation,
    manipulation,
    memorisation,
    out_of_distribution,
    reconstruction,
)
from diffae.evaluation.tasks.memorisation import Comparison, copying
from diffae.evaluation.tasks.shared import nearer

RUNS = 200
Rng = np.random.Generator


def features(rng: Rng, count: int, shift: float = 0.0) -> np.ndarray:
    return rng.standard_normal((count, 3)) + shift


def errors(rng: Rng, count: int = 40) -> np.ndarray:
    """Of reconstructions: positive and skewed."""
    return rng.lognormal(size=count)


def paths_alike(rng: Rng) -> Claim:
    lengths = {(whose, "pixels"): errors(rng) for whose in ("ours", "DDIM")}
    return interpolation._claim(lengths, ["pixels"])


def reconstructions_alike(rng: Rng) -> Claim:
    one = Estimate(1.0, 1.0, 1.0, 40)

    def row(whose: str, t: int) -> reconstruction.Row:
        values = errors(rng)
        name = f"{whose}: {reconstruction._WAYS['explicit']}"
        return reconstruction.Row(name, t, 1, 1.0, mean(values), one, one, None, values)

    [claim] = reconstruction._claims([row(whose, 20) for whose in ("ours", "DDIM")], "explicit")
    return claim


def labels_at_random(rng: Rng) -> Claim:
    labels = rng.integers(0, 2, 60).astype(float)

    def probe() -> list[ProbeResult]:
        logits = rng.standard_normal(60)
        return [ProbeResult("hat", auroc(logits, labels == 1), int(labels.sum()), logits, labels)]

    return attributes._claim({"z_sem": probe(), "PCA": probe()}, 0)


def samples_like_ddims(rng: Rng) -> Claim:
    made = {("ours", 20): features(rng, 30, 0.3), ("DDIM", 20): features(rng, 30, 0.3)}
    return generation._claim(5, "ours", [(20, 20)], features(rng, 30), made, 0)


def an_edit_that_does_nothing(rng: Rng) -> Claim:
    have, lack, seen = features(rng, 30, 1.0), features(rng, 30), features(rng, 30)
    toward, near = nearer(have, seen, lack), nearer(lack, seen, have)
    nothing = torch.zeros(0)
    return manipulation._claim([manipulation.Edited("hat", "along w", True, nothing, nothing, 30, [], toward, near)])


def a_prior_that_copies(rng: Rng) -> Claim:
    known = torch.from_numpy(rng.standard_normal((200, 8)).astype(np.float32))
    copies = known[torch.from_numpy(rng.permutation(200)[:40])] + 0.01
    unseen = torch.from_numpy(rng.standard_normal((40, 8)).astype(np.float32))
    found = {"pixels": Comparison.of(copies, unseen, lambda x: x, [known], mirror=False)}
    return memorisation._claim(found, copying(found.values()), 40)


def x_T_as_normal_as_that_of_unseen_images(rng: Rng) -> Claim:
    area = auroc(rng.standard_normal(60), np.arange(60) < 30)
    return out_of_distribution._claim({"translated": area})


def detectors_right_in_nine_of_ten(rng: Rng) -> Claim:
    right = (rng.random(400) < 0.9).astype(float)
    return detection._claim({("generated", 100): proportion(right)}, "Net", detection.ENOUGH)


def samples_of_every_class(rng: Rng) -> Claim:
    real, every, drawn = features(rng, 30, 1.0), features(rng, 30), features(rng, 60)
    one = conditional.Sampled([], nearer(real, drawn, every))
    return conditional._claim({("hat", "binary"): one})


def z_sem_no_better_when_larger(rng: Rng) -> Claim:
    return capacity._claims({64: errors(rng), 128: errors(rng)})[0]


def an_autoencoder_as_good(rng: Rng) -> Claim:
    one = Estimate(1.0, 1.0, 1.0, 40)
    ours, other = errors(rng), errors(rng)
    rows = [
        reconstruction.Row(f"ours: {reconstruction._WAYS['exact']}", 100, 1, 1.0, mean(ours), one, one, None, ours),
        reconstruction.Row("PCA", None, 1, None, mean(other), one, one, None, other),
    ]
    return reconstruction._against_others(rows, 100)[0]


def errors_of_just_30_decibels(rng: Rng) -> Claim:
    error = mean(1e-3 * rng.gamma(4, 0.25, 60))
    return out_of_distribution._reconstructed({"translated": error})


def detection_as_easy_at_every_t(rng: Rng) -> Claim:
    right = {("generated", t): (rng.random(200) < 0.8).astype(float) for t in (100, 500)}
    return detection._harder(right, "Net")[0]


NULLS: list[Callable[[Rng], Claim]] = [
    paths_alike,
    reconstructions_alike,
    labels_at_random,
    samples_like_ddims,
    an_edit_that_does_nothing,
    a_prior_that_copies,
    x_T_as_normal_as_that_of_unseen_images,
    detectors_right_in_nine_of_ten,
    samples_of_every_class,
    z_sem_no_better_when_larger,
    an_autoencoder_as_good,
    errors_of_just_30_decibels,
    detection_as_easy_at_every_t,
]


@pytest.mark.parametrize("null", NULLS, ids=lambda null: null.__name__)
def test_a_null_is_rarely_shown(null: Callable[[Rng], Claim]) -> None:
    verdicts = [null(np.random.default_rng((7, run))).verdict for run in range(RUNS)]
    assert verdicts.count("shown") <= 0.05 * RUNS
