"""Scores of out-of-distribution images: each rises with what it measures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from tiny import images, normal, tiny_model

from diffae.config import Sampling
from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Result
from diffae.evaluation.statistics import Estimate, auroc
from diffae.evaluation.tasks.out_of_distribution import (
    _best,
    _claim,
    mahalanobis,
    noise_scores,
    scores,
    shifted,
    textures,
)
from diffae.model import Code


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_normal_noise_scores_low_and_everything_else_higher() -> None:
    noise = normal(20, 3, 16, 16)
    wide, uniform = 1.5 * noise, 12**0.5 * (torch.rand(noise.shape, generator=generator()) - 0.5)
    smooth = noise[..., :1, :].expand(noise.shape)  # rows all alike
    low = noise_scores(Code(None, noise))
    assert low["x_T not normal"].mean() < 0.05
    assert np.abs(low["x_T correlated"]).mean() < 0.05
    for other in (wide, uniform):
        assert noise_scores(Code(None, other))["x_T not normal"].min() > low["x_T not normal"].max()
    assert noise_scores(Code(None, smooth))["x_T correlated"].min() > 0.4


def test_mahalanobis_of_normal_codes_is_chi_squared() -> None:
    scale = torch.tensor([1.0, 10.0, 0.1])
    typical, z = normal(20_000, 3) * scale + 5, normal(4_000, 3, seed=2) * scale + 5
    found = np.square(mahalanobis(z, typical))
    assert np.quantile(found, [0.5, 0.9]) == pytest.approx(chi2(3).ppf([0.5, 0.9]), rel=0.1)
    with pytest.raises(DataError, match="at least 2"):
        mahalanobis(z, typical[:1])


def test_scores_have_one_number_per_image() -> None:
    model, x = tiny_model(), images(3)
    sampling = Sampling(2, inversion="explicit")
    found = scores(model, x, generator=generator(), sampling=sampling, typical=normal(9, 6))
    assert set(found) == {"error of z_sem alone", "x_T not normal", "x_T correlated", "z_sem unusual"}
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in found.values())
    assert "z_sem unusual" not in scores(model, x, generator=generator(), sampling=sampling)


@pytest.mark.parametrize("size", [16, 17])
def test_shifted_images_are_images_and_not_the_same(size: int) -> None:
    x = images(2, size=size)
    for name, changed in shifted(x, generator()).items():
        assert changed.shape == x.shape, name
        assert changed.abs().max() <= 1, name
        assert (changed - x).abs().mean() > 0.01, name


def test_textures_differ_from_each_other() -> None:
    found = textures(3, 3, 16, generator())
    assert found.shape == (3, 3, 16, 16)
    assert found.abs().max() <= 1
    assert (found[0] - found[1]).abs().mean() > 0.1


def test_translated_images_are_moved_to_the_right_by_a_quarter() -> None:
    """Fig. 11 used to be missing."""
    x = images(2)
    moved = shifted(x, generator())["translated"]
    torch.testing.assert_close(moved[..., 4:], x[..., :12])
    torch.testing.assert_close(moved[..., :4], x[..., :1].expand(-1, -1, -1, 4))


def test_the_best_of_several_scores_has_a_wider_interval() -> None:
    rng = np.random.default_rng(0)
    inside = {name: rng.normal(size=60) for name in "abcd"}
    outside = {name: rng.normal(0.4 * (name == "c"), 1, 60) for name in "abcd"}
    best, name = _best(outside, inside)
    alone = auroc(np.concatenate([outside["c"], inside["c"]]), np.arange(120) < 60)
    assert name == "c"
    assert best.value == alone.value
    assert best.low < alone.low < alone.high < best.high


def test_the_best_of_several_scores_of_the_same_kind_is_rarely_above_chance() -> None:
    """Without the correction it would be so in one draw of ten."""
    rng = np.random.default_rng(1)
    draws = [[{name: rng.normal(size=40) for name in "abcd"} for _ in "io"] for _ in range(200)]
    above = [_best(*pair)[0].low > 0.5 for pair in draws]
    assert np.mean(above) <= 0.05


def test_claim_8_is_decided_by_normality(context: EvaluationContext, run: Callable[..., Result]) -> None:
    """The best of several scores of x_T, its correlations among them, used to decide that it is not normal."""
    sure, unsure, against = Estimate(0.8, 0.7, 0.9, 9), Estimate(0.6, 0.4, 0.8, 9), Estimate(0.3, 0.2, 0.4, 9)
    assert [_claim({"a": one, "b": other}).verdict for one, other in ((sure, sure), (sure, against), (unsure, against))
            ] == ["shown", "partly shown", "not decided"]  # fmt: skip
    found = run("out-of-distribution")
    single = {row[0]: row for row in found.tables[1].rows}
    assert found.tables[1].header[2] == "x_T not normal"
    for kind in ("translated", "out-of-distribution: textures"):
        area = single[kind][2]
        assert isinstance(area, Estimate)
        assert f"{kind}: AUROC {area.value:.3f} by" in found.claims[0].evidence
    assert [picture.name for picture in found.pictures] == ["sheet", "maps", "normality"]
