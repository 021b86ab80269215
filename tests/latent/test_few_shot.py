"""Class-conditional sampling: which codes are kept, how often, and classes that are too rare."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from diffae.config import PriorConfig
from diffae.errors import DataError
from diffae.latent.few_shot import LatentClassifier, sample_like
from diffae.latent.prior import LatentPrior
from diffae.latent.probes import Plane
from diffae.networks.mlp import SkipMLP

D = 8


class NormalPrior(LatentPrior):
    """Draws z_norm ~ N(0, I): rejection is then known in closed form."""

    def __init__(self) -> None:
        super().__init__(PriorConfig(2, 4), SkipMLP(D, 4, 2), torch.full((D,), 5.0), torch.full((D,), 2.0))

    def sample(self, count: int, *, steps: int = 1, truncation: float = 1.0, generator=None) -> Tensor:
        return self.denormalise(truncation * torch.randn(count, D, generator=generator))


def classes(count: int, seed: int, shift: float) -> Tensor:
    """z_sem of examples, whose first number depends on the class."""
    z = torch.randn(count, D, generator=torch.Generator().manual_seed(seed))
    z[:, 0] += shift
    return NormalPrior().denormalise(z)


def test_a_binary_classifier_separates_the_classes() -> None:
    classifier = LatentClassifier(NormalPrior()).fit(classes(50, 1, 2.5), classes(50, 2, -2.5))
    assert classifier.score_.value > 0.9
    like, unlike = (classifier.probability(classes(500, seed, s)) for seed, s in ((3, 2.5), (4, -2.5)))
    assert (like > 0.5).double().mean() > 0.9
    assert (unlike > 0.5).double().mean() < 0.1


def test_both_sides_have_the_same_weight() -> None:
    """p is 1/2 between the two means although there are 40 times more unlabelled than positive examples."""
    unlabelled = torch.cat([classes(400, 5, 2), classes(3600, 6, -2)])  # a tenth is positive
    classifier = LatentClassifier(NormalPrior()).fit(classes(100, 1, 2), unlabelled)
    assert (classifier.probability(classes(500, 3, 2)) > 0.5).double().mean() > 0.85
    assert (classifier.probability(classes(500, 4, -2)) > 0.5).double().mean() < 0.1


class Known(LatentClassifier):
    """p = sigmoid(slope x z_norm[0] + intercept), not fitted."""

    def __init__(self, slope: float, intercept: float = 0.0) -> None:
        super().__init__(NormalPrior())
        self.plane_ = Plane(np.eye(D)[0] * slope, intercept)


def test_the_acceptance_rate_is_that_of_the_rule() -> None:
    """E[p 1(p >= 1/2)] over the prior, by quadrature."""
    found = sample_like(NormalPrior(), Known(3.0), 4000, generator=torch.Generator().manual_seed(0))
    x = np.linspace(0, 8, 20_001)
    expected = np.trapezoid(np.exp(-x * x / 2) / np.sqrt(2 * np.pi) / (1 + np.exp(-3 * x)), x)
    assert found.z_sem.shape == (4000, D)
    assert found.kept >= 4000
    assert found.kept / found.drawn == pytest.approx(expected, abs=4 * (expected / found.drawn) ** 0.5)


def test_what_is_kept_is_of_the_class() -> None:
    prior = NormalPrior()
    z_norm = prior.normalise(sample_like(prior, Known(3.0), 2000, generator=torch.Generator().manual_seed(0)).z_sem)
    assert (z_norm[:, 0] >= 0).all()
    x = np.linspace(0, 8, 20_001)
    weight = np.exp(-x * x / 2) / (1 + np.exp(-3 * x))
    assert z_norm[:, 0].mean() == pytest.approx((weight * x).sum() / weight.sum(), abs=0.06)
    assert z_norm[:, 1:].mean().abs() < 0.05  # the other numbers are distributed as in the prior


def test_a_seed_gives_the_same() -> None:
    a, b, c = (
        sample_like(NormalPrior(), Known(3.0), 10, generator=torch.Generator().manual_seed(s)).z_sem for s in (0, 0, 1)
    )
    torch.testing.assert_close(a, b)
    assert not torch.equal(a, c)


def test_a_class_that_is_too_rare_fails_soon() -> None:
    drawn = []

    class Counting(NormalPrior):
        def sample(self, count: int, **how) -> Tensor:
            drawn.append(count)
            return super().sample(count, **how)

    with pytest.raises(DataError, match=r"0 of 3,072 z_sem drawn were accepted, so fewer than 0.1% .* too rare"):
        sample_like(Counting(), Known(3.0, -30.0), 10, generator=torch.Generator().manual_seed(0))
    assert sum(drawn) == 3072  # the rule of three: 3,000, rounded up to a batch


def test_a_rare_class_is_found() -> None:
    found = sample_like(NormalPrior(), Known(50.0, -110.0), 12, generator=torch.Generator().manual_seed(0))  # z > 2.2
    assert len(found.z_sem) == 12
    assert 0.005 < found.kept / found.drawn < 0.03


@pytest.mark.parametrize(
    ("like", "others", "message"),
    [(4, 50, "4 positive examples are too few: give at least 5"), (50, 0, "0 images to compare them with are too few")],
)
def test_too_few_examples(like: int, others: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        LatentClassifier(NormalPrior()).fit(classes(like, 1, 1), classes(others, 2, -1))
