"""Typical codes, and the threshold beyond which an image counts as outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model

from diffae.errors import CheckpointError, DataError
from diffae.latent.typicality import TYPICAL, TypicalCodes


def codes(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated codes of 4 numbers, of very different spread."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[1.0, 0.8, 0, 0], [0, 0.6, 0, 0], [0, 0, 100.0, 0], [0, 0, 0, 0.01]])
    return torch.randn(count, 4, generator=generator) @ mixing + shift * mixing.sum(0)


def test_one_image_in_a_hundred_of_the_same_kind_is_outside_and_others_are() -> None:
    typical = TypicalCodes().fit(codes(3_000, 0), codes(2_000, 1))
    assert typical.outside(codes(4_000, 2)).mean() == pytest.approx(0.01, abs=0.006)
    assert typical.outside(codes(200, 3, shift=4)).mean() > 0.9


def test_the_distance_is_that_of_the_covariance() -> None:
    known, z = codes(20_000, 0), codes(5, 1)
    away = (z - known.mean(0)).double().numpy()
    expected = np.sqrt(np.einsum("bi,ij,bj->b", away, np.linalg.inv(np.cov(known.double().T.numpy())), away))
    assert TypicalCodes().fit(known).distance(z) == pytest.approx(expected, rel=0.02)


def test_saving_and_loading(tmp_path: Path) -> None:
    model, other = tiny_model(), tiny_model(seed=1)
    fitted, z = TypicalCodes().fit(codes(50, 0), codes(20, 1)), codes(9, 2)
    assert TypicalCodes.load(tmp_path, model.fingerprint()) is None
    fitted.save(tmp_path, model.fingerprint())
    found = TypicalCodes.load(tmp_path, model.fingerprint())
    assert found is not None
    assert np.array_equal(found.distance(z), fitted.distance(z))
    assert found.threshold_ == pytest.approx(fitted.threshold_)
    assert TypicalCodes.load(tmp_path, other.fingerprint()) is None  # of another model
    (tmp_path / TYPICAL).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"typical\.safetensors"):
        TypicalCodes.load(tmp_path, model.fingerprint())


def test_a_single_code_has_no_covariance() -> None:
    with pytest.raises(DataError, match="1 typical codes: their covariance needs at least 2"):
        TypicalCodes().fit(codes(1, 0))
