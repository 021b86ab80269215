"""The share that z_sem fixes, for images of known variances."""

from __future__ import annotations

import pytest
import torch
from tiny import normal, tiny_model

from diffae.config import Sampling
from diffae.errors import DataError
from diffae.evaluation.tasks.variation import Variation, fixed_share, vary


def test_shares_are_the_variances_put_in() -> None:
    """Each image is a constant of its own (variance 4/5 coarse); x_T adds white noise to every pixel."""
    between = 0.04 * normal(400, 1, 1, 1, 1)
    within = 0.02 * normal(400, 6, 1, 16, 16, seed=2)
    share = fixed_share(Variation(2 * (0.5 + between + within) - 1))
    coarse_noise = 0.02**2 / 16  # averaged over 4 x 4 pixels
    assert share.coarse == pytest.approx(0.04**2 / (0.04**2 + coarse_noise), abs=0.02)
    assert share.all == pytest.approx(0.04**2 / (0.04**2 + 0.02**2), abs=0.05)
    assert share.fine == pytest.approx(0, abs=0.02)


def test_images_that_x_T_does_not_change_are_fixed() -> None:
    images = normal(5, 1, 3, 8, 8).clamp(-1, 1).expand(5, 4, 3, 8, 8)
    share = fixed_share(Variation(images))
    assert (share.coarse, share.fine, share.all) == pytest.approx((1, 1, 1))


def test_mean_and_deviation_are_over_x_T_alone() -> None:
    model, z_sem = tiny_model(), normal(2, 6)
    found = vary(model, z_sem, 3, generator=torch.Generator().manual_seed(0), sampling=Sampling(2))
    assert found.images.shape == (2, 3, 3, 16, 16)
    assert torch.equal(found.mean[1], found.images[1].mean(0))
    unit = ((found.images[0] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(found.deviation[0], unit.std(0, correction=0).mean(0))


def test_too_few_are_refused() -> None:
    with pytest.raises(DataError, match="at least 2"):
        vary(tiny_model(), normal(1, 6), 1, generator=torch.Generator())
    with pytest.raises(DataError, match="at least 2"):
        fixed_share(Variation(normal(1, 4, 3, 8, 8)))
