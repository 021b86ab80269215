"""Nearest training images, and the test for copies: against scikit-learn, and on cases whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.neighbors import NearestNeighbors

from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Result
from diffae.evaluation.tasks import memorisation
from diffae.evaluation.tasks.memorisation import SIGNIFICANT, Comparison, Nearest, copying, nearest


def vectors(count: int, seed: int, p: int = 12) -> torch.Tensor:
    return torch.randn(count, p, generator=torch.Generator().manual_seed(seed))


def compared(samples: torch.Tensor, held_out: torch.Tensor, training: torch.Tensor) -> Comparison:
    return Comparison(*(nearest(x[None], training.split(100)) for x in (samples, held_out)))


def test_neighbours_are_sklearns() -> None:
    queries, training = vectors(20, 1), vectors(333, 2)
    found = nearest(queries[None], training.split(50), k=7)
    distances, rows = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(training).kneighbors(queries)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances**2 / 12, rtol=1e-4)


def test_the_nearer_view_counts() -> None:
    queries, training = vectors(5, 1), vectors(200, 2)
    flipped = queries.flip(1)
    training[7], training[9] = queries[0], flipped[1]
    found = nearest(torch.stack([queries, flipped]), training.split(64), k=3)
    assert found.rows[0, 0] == 7
    assert found.rows[1, 0] == 9
    np.testing.assert_allclose(found.distances[:2, 0], 0, atol=1e-6)


def test_few_training_images() -> None:
    assert nearest(vectors(3, 1)[None], [vectors(4, 2)]).rows.shape == (3, 4)
    with pytest.raises(DataError, match="1 training images are too few"):
        nearest(vectors(3, 1)[None], [vectors(1, 2)])


def test_new_samples_are_not_called_copies() -> None:
    one = compared(vectors(100, 1), vectors(200, 2), vectors(1000, 3))
    expected = mannwhitneyu(one.samples.relative, one.held_out.relative, alternative="less").pvalue
    assert one.p_value == pytest.approx(expected)
    assert one.p_value > SIGNIFICANT
    assert one.nearer == pytest.approx(0.5, abs=0.1)


def test_copies_are_found() -> None:
    training = vectors(1000, 3)
    one = compared(training[:40] + 0.05 * vectors(40, 1), vectors(200, 2), training)
    assert one.p_value < 1e-6
    assert one.nearer > 0.95
    assert one.closest == 40


def test_smooth_samples_are_not_copies() -> None:
    """Nearer the mean is nearer to every training image: absolute distances mislead, relative ones do not."""
    training = vectors(1000, 3)
    one = compared(0.6 * vectors(100, 1), vectors(200, 2), training)
    absolute = mannwhitneyu(one.samples.distances[:, 0], one.held_out.distances[:, 0], alternative="less").pvalue
    assert absolute < 1e-6
    assert one.p_value > SIGNIFICANT


def test_the_verdict_is_corrected_for_the_number_of_measures() -> None:
    one = compared(vectors(100, 1), vectors(200, 2), vectors(1000, 3))
    copy = compared(vectors(1000, 3)[:40], vectors(200, 2), vectors(1000, 3))
    assert copying([one, copy]) == pytest.approx(2 * copy.p_value)
    assert copying([one, one, one, one]) == min(1.0, 4 * one.p_value)


def test_too_few_samples_do_not_show_that_none_are_copies() -> None:
    def comparison(count: int) -> Comparison:
        distances = np.stack([np.linspace(0.5, 0.9, count), np.ones(count)], axis=1)
        near = Nearest(np.zeros((count, 2), np.int64), distances)
        return Comparison(near, near)

    verdicts = [memorisation._claim({"pixels": comparison(count)}, 0.5, count).verdict for count in (8, 200)]
    assert verdicts == ["not decided", "shown"]
    assert memorisation._claim({"pixels": comparison(200)}, 0.001, 200).verdict == "not shown"


def test_neighbours_are_ordered_anew_by_a_slow_distance(context: EvaluationContext) -> None:
    """The paper's first distance, LPIPS, used to be missing from Appendix C."""
    x, training = context.test.tensor(3), context.train.tensor()
    x[1] = training[7].flip(-1)
    one = Comparison.of(x[:2], x[2:], lambda images: images.flatten(1), [training.flatten(1)])

    def darkness(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
        return (a - b).abs().amax((1, 2, 3)).numpy()

    again = one.reranked(x[:2], x[2:], context.train, darkness)
    for found, image in ((again.samples, x[0]), (again.held_out, x[2])):
        near = training[torch.from_numpy(found.rows[0])]
        expected = np.minimum(darkness(image[None].expand(near.shape), near), darkness(image.flip(-1)[None], near))
        np.testing.assert_allclose(found.distances[0], expected, rtol=1e-6)
        assert (np.diff(found.distances[0]) >= 0).all()
    assert sorted(again.samples.rows[0]) == sorted(one.samples.rows[0])
    assert (again.samples.rows[1, 0], again.samples.distances[1, 0]) == (7, 0)


def test_the_perceptual_distance_has_a_row_where_there_is_a_network(
    context: EvaluationContext, run: Callable[..., Result]
) -> None:
    names = [row[0] for row in run("memorisation").tables[0].rows]
    assert names[-1] == "colours distance, of the 50 nearest by pixels"
    without = replace(context, perceptual=None, out=context.out / "without")
    assert [row[0] for row in run("memorisation", without).tables[0].rows] == names[:-1]
