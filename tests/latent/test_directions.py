"""Directions without labels: principal components, and those that change the decoded image most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from diffae.errors import ConfigError, DataError
from diffae.latent.codes import Code
from diffae.latent.directions import most_visible, principal_directions

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((200, 3)) @ RNG.standard_normal((3, 6)) + 0.3 * RNG.standard_normal((200, 6)) + 5


class LinearDecoder:
    """An image of 2 x 4 pixels that is a linear function of z_sem, plus x_T."""

    def __init__(self) -> None:
        self.matrix = RNG.standard_normal((8, 6))

    def decode(self, code: Code, sampling: Any) -> torch.Tensor:
        assert code.z_sem is not None
        assert code.x_T is not None
        return (code.z_sem @ torch.from_numpy(self.matrix).float().T).view(-1, 1, 2, 4) + code.x_T


def test_principal_directions_equal_scikit_learns() -> None:
    found = principal_directions(Z, 4)
    std = Z.std(axis=0)
    pca = PCA(4).fit((Z - Z.mean(axis=0)) / std)
    np.testing.assert_allclose(found.shares, pca.explained_variance_ratio_)
    expected = pca.components_ * np.sqrt(pca.explained_variance_ * 199 / 200)[:, None] * std
    np.testing.assert_allclose(np.abs(found.vectors), np.abs(expected), atol=1e-9)


def test_a_step_is_one_standard_deviation_of_the_images() -> None:
    [step] = principal_directions(Z, 1).vectors
    along = (Z - Z.mean(axis=0)) / Z.std(axis=0) @ (step / Z.std(axis=0))
    length = np.linalg.norm(step / Z.std(axis=0))
    assert (along / length).std() == pytest.approx(length)


def test_the_most_visible_directions_of_a_linear_decoder_are_its_singular_vectors() -> None:
    decoder, within = LinearDecoder(), principal_directions(Z, 4)
    code = Code(torch.from_numpy(Z[:3]).float(), torch.randn(3, 1, 2, 4, generator=torch.Generator().manual_seed(0)))
    seen: list[int] = []
    found = most_visible(decoder, code, within, progress=seen.append)  # pyright: ignore[reportArgumentType]
    mixtures, singular = np.linalg.svd(within.vectors @ decoder.matrix.T)[:2]
    np.testing.assert_allclose(found.shares, singular**2 / (singular**2).sum(), rtol=1e-4)
    np.testing.assert_allclose(np.abs(found.vectors), np.abs(mixtures.T @ within.vectors), atol=1e-3)
    assert seen == [1, 2, 3]
    changes = np.linalg.norm(found.vectors @ decoder.matrix.T, axis=1)
    assert (np.diff(changes) < 0).all()
    assert len(found[:2]) == 2


def test_bad_counts() -> None:
    with pytest.raises(ConfigError, match=r"pca is 7: must lie in 1\.\.6"):
        principal_directions(Z, 7)
    with pytest.raises(ConfigError, match="pca is 0"):
        principal_directions(Z, 0)
    with pytest.raises(DataError, match="4 images: 4 principal directions need at least 5"):
        principal_directions(Z[:4], 4)
