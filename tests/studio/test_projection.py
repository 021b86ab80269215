"""The map of z_sem in the plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffae.errors import ConfigError
from diffae.studio import projection


def test_pca_keeps_the_largest_variance_first() -> None:
    random = np.random.default_rng(0)
    causes = random.normal(size=(300, 2))
    z = causes[:, [0, 0, 0, 1, 1]] + 0.1 * random.normal(size=(300, 5))
    points = projection.pca((z - z.mean(0)) / z.std(0))
    assert [abs(np.corrcoef(points[:, k], causes[:, k])[0, 1]) > 0.95 for k in (0, 1)] == [True, True]
    np.testing.assert_allclose(points.std(0), 1, rtol=1e-4)


@pytest.mark.slow
def test_umap_keeps_groups_apart_and_is_made_once(tmp_path: Path) -> None:
    pytest.importorskip("umap")
    random = np.random.default_rng(0)
    z = np.concatenate([random.normal(centre, 0.3, (40, 8)) for centre in (-1, 1)])
    points = projection.umap(z, tmp_path)
    near = np.linalg.norm(points[:, None] - points[None], axis=2).argsort(axis=1)[:, 1]
    assert ((near < 40) == (np.arange(80) < 40)).all()
    [file] = tmp_path.iterdir()
    np.save(file, points + 1)
    np.testing.assert_array_equal(projection.umap(z, tmp_path), points + 1)  # read, not made again


def test_what_umap_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "umap_installed", lambda: True)
    with pytest.raises(ConfigError, match="layout is 'umap': needs more than 15 images, there are 3"):
        projection.umap(np.zeros((3, 4)), tmp_path)
    monkeypatch.setattr(projection, "umap_installed", lambda: False)
    with pytest.raises(ConfigError, match="pip install umap-learn"):
        projection.umap(np.zeros((30, 4)), tmp_path)


def test_between_points_the_nearest_are_mixed() -> None:
    points = np.array([[0, 0], [1, 0], [50, 50]], np.float32)
    rows, weights = projection.between(points, (0.25, 0))
    assert list(rows) == [0, 1, 2]
    assert weights[0] > weights[1] > weights[2]
    assert weights.sum() == pytest.approx(1)
