"""The vectors of a pack's images: right, in order, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from diffae.data.feature_vectors import vectors_file
from diffae.data.pack import Pack
from diffae.errors import DataError
from diffae.evaluation.features import FeatureNetwork


class Asked:
    """A network that gives the mean colour, and counts the images it is asked for."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        self.count += len(x)
        return {"pooled": x.mean(dim=(2, 3))}


@pytest.mark.parametrize("channels", [1, 3])
def test_vectors_are_those_of_each_image_and_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.setattr("diffae.data.feature_vectors._BLOCK", 3)
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, channels), dtype=np.uint8)
    pack = Pack.from_arrays([images], tmp_path / "a.pack")
    asked, told = Asked(), []
    path = vectors_file(pack, FeatureNetwork("colour", asked, key="a"), told.append)
    assert told == [3, 6, 8]
    found = np.load(path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, images.mean(axis=(1, 2)) / 127.5 - 1, atol=1e-5)
    assert vectors_file(pack, FeatureNetwork("colour", asked, key="a")) == path
    assert asked.count == 8
    assert vectors_file(pack, FeatureNetwork("colour", asked, key="b")) != path


def test_nothing_is_left_where_there_are_no_vectors(tmp_path: Path) -> None:
    pack = Pack.from_arrays([np.zeros((2, 4, 4, 3), np.uint8)], tmp_path / "a.pack")
    before = sorted(pack.path.iterdir())
    with pytest.raises(DataError, match="gives no feature vector"):
        vectors_file(pack, FeatureNetwork("maps", lambda x: {"map": x}, key="a"))
    assert sorted(pack.path.iterdir()) == before
