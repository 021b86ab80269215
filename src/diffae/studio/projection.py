"""The map: z_sem in the plane, and back from a point of the plane to a z_sem."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int

from diffae.checkpoint import written_beside
from diffae.errors import ConfigError, require
from diffae.latent.directions import principal_directions

LAYOUTS = ("pca", "umap")
NEIGHBOURS = 15
"""Neighbours by which UMAP places an image; its own default."""
_MIXED = 8  # neighbours in the plane whose z_sem are mixed at a point between them


def umap_installed() -> bool:
    """Whether the UMAP layout can be made."""
    return find_spec("umap") is not None


def pca(z_norm: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n 2"]:
    """Coordinates along the first two principal components, in their standard deviations."""
    vectors = principal_directions(z_norm, 2).vectors
    points = z_norm @ (vectors / np.square(vectors).sum(axis=1, keepdims=True)).T
    return points.astype(np.float32)


def umap(z_norm: Float[np.ndarray, "n d"], cache: Path) -> Float32[np.ndarray, "n 2"]:
    """Coordinates by UMAP, made once and then read from a file in `cache`.

    Raises:
        ConfigError: umap-learn is not installed, or there are too few images.
    """
    if not umap_installed():
        raise ConfigError("layout is 'umap': it needs umap-learn, which is not installed; pip install umap-learn")
    require(len(z_norm) > NEIGHBOURS, "layout", "umap", f"needs more than {NEIGHBOURS} images, there are {len(z_norm)}")
    key = hashlib.sha256(np.ascontiguousarray(z_norm).tobytes()).hexdigest()[:16]
    path = cache / f"umap-{key}.npy"
    if not path.is_file():
        from umap import UMAP  # pyright: ignore[reportMissingImports]

        points = UMAP(NEIGHBOURS, random_state=0, n_jobs=1).fit_transform(z_norm)
        with written_beside(path) as temporary, temporary.open("wb") as file:
            np.save(file, np.asarray(points, dtype=np.float32))
    return np.load(path)


def between(
    points: Float32[np.ndarray, "n 2"], place: tuple[float, float]
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Rows of the nearest points to a place of the plane, and their weights: inverse squared distances, of sum 1."""
    squared = np.square(points - np.asarray(place, dtype=np.float32)).sum(axis=1)
    rows = np.argsort(squared)[:_MIXED]
    weights = 1 / (squared[rows].astype(np.float64) + 1e-9)
    return rows, weights / weights.sum()
