"""Samples compared with real images, and with those of DDIM with more steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny import tiny_config, tiny_model

from diffae.config import Sampling
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.protocol import ABOUT, Protocol
from diffae.evaluation.results import Result
from diffae.evaluation.runner import evaluate
from diffae.evaluation.tasks import built_in, generation
from diffae.evaluation.tasks.shared import distances
from diffae.latent.prior import LatentPrior
from diffae.model import DiffusionAutoencoder


def test_equal_steps_decide_claim_5_and_fewer_ones_claim_10(context: EvaluationContext) -> None:
    """The paper's claim is made at equal T; one with fewer steps than DDIM's used to stand in its place."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 3))

    def verdicts(ours: float, ddim: dict[int, float]) -> list[tuple[int, str]]:
        made = {(name, t): rng.normal(ours, 1, (200, 3)) for name in (generation._OURS, generation._SAME_T)
                for t in ddim}  # fmt: skip
        made |= {("DDIM", t): rng.normal(mean, 1, (200, 3)) for t, mean in ddim.items()}
        return [(claim.number, claim.verdict) for claim in generation._claims(real, made, context)]

    assert verdicts(0.0, {10: 1.0, 20: 1.0}) == [(5, "shown"), (10, "shown")]
    assert verdicts(0.5, {10: 1.0, 20: 0.0}) == [(5, "partly shown"), (10, "not shown")]
    assert verdicts(0.5, {10: 0.5, 20: 0.5})[0] == (5, "not decided")
    assert verdicts(0.0, {50: 1.0, 100: 1.0}) == [(5, "shown")]
    assert generation._claims(real, {(generation._SAME_T, 10): real}, context) == ()


def test_the_papers_protocol_takes_its_sampler_and_images_of_the_data_set(
    context: EvaluationContext, counts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    samplings: set[Sampling] = set()
    own = DiffusionAutoencoder.decode
    monkeypatch.setattr(
        DiffusionAutoencoder, "decode", lambda *a, **how: samplings.add(how["sampling"]) or own(*a, **how)
    )
    cases: tuple[tuple[Protocol, Callable[[int], Sampling], str], ...] = (
        ("default", Sampling, "unseen"), ("paper", Sampling.official, "those of training")
    )  # fmt: skip
    for protocol, sampler, real in cases:
        samplings.clear()
        changed = dataclasses.replace(context, protocol=protocol, out=context.out / protocol)
        outcome = evaluate(changed, [built_in()["generation"]], counts=counts)["generation"]
        assert samplings == {sampler(1), sampler(2)}
        assert f"Real images are {real}" in outcome.result.notes[0]
        assert all(ABOUT[protocol] in table.note for table in outcome.result.tables)
        assert "protocol" in outcome.parts  # another protocol, another result


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


def test_too_few_real_images_are_refused(context: EvaluationContext, run: Callable[..., Result]) -> None:
    with pytest.raises(DataError, match="10 images: generation needs at least 20 real ones; give more by --unseen, or"):
        run("generation", dataclasses.replace(context, test=context.test.first(10)))


def test_samples_of_the_same_distribution_are_near(context: EvaluationContext) -> None:
    features = context.need_features()
    one, other = (features.vectors(context.train.tensor()[rows]) for rows in (slice(60), slice(60, None)))
    far, near = distances(one, other + 1), distances(one, other)
    assert near[1].low < 0.01 < far[1].low
    assert dataclasses.astuple(near[0]) < dataclasses.astuple(far[0])


def test_a_model_that_predicts_eps_is_decoded_by_the_published_sampler(
    context: EvaluationContext, run: Callable[..., Result]
) -> None:
    """Without clipping, a baseline by the paper's recipe used to look worse than it is."""
    eps = tiny_model(tiny_config(z_sem_channels=0), prediction="eps")
    found = run("generation", dataclasses.replace(context, ddim=eps, out=context.out / "eps"))
    assert "DDIM: decoded from random x_T by the published sampler, which clips" in " ".join(found.notes)
    assert context.at(7, eps) == Sampling.official(7)
    assert context.at(7) == Sampling(7)
    assert "published sampler" not in " ".join(run("generation").notes)
