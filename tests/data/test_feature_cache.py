"""Vectors of a pack's images, z_sem and other features: computed once, in order, never mixed up."""

from __future__ import annotations

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffae.data import arrays
from diffae.data.feature_cache import encode_pack, vectors_file
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError, TrainingError

COUNT = 300  # more than are read at once


class Model:
    """z_sem is the mean colour times a factor; without encoder for the factor 0."""

    image_shape = (3, 16, 16)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.calls = factor, 0

    def fingerprint(self) -> str:
        return f"mean times {self.factor}"

    def encode_semantic(self, images: Tensor) -> Tensor:
        self.calls += 1
        if not self.factor:
            raise ConfigError("this model has no encoder")
        return self.factor * images.mean(dim=(2, 3)).to(torch.float64)


class Colours:
    """A network whose vector is the mean colour."""

    def __init__(self, key: str) -> None:
        self.key, self.count = key, 0

    def vectors(self, images: Tensor) -> np.ndarray:
        if self.key == "maps":
            raise DataError("maps gives no feature vector")
        self.count += len(images)
        return images.mean(dim=(2, 3)).numpy()


@pytest.fixture
def model() -> Model:
    return Model()


def pixels(seed: int = 0, count: int = COUNT, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return Pack.from_arrays([pixels()], tmp_path / "noise.pack")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_codes_are_in_the_order_of_the_rows(model: Model, pack: Pack, tmp_path: Path) -> None:
    rows = np.random.default_rng(1).permutation(COUNT)[:270]
    seen: list[int] = []
    codes = encode_pack(model, pack, rows, tmp_path / "cache", seen.append)
    expected = model.encode_semantic(to_tensor(pixels()[rows])).numpy()
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes, expected, atol=1e-5)
    assert seen == [256, 270]
    assert isinstance(codes, np.memmap)
    assert not codes.flags.writeable


def test_codes_are_encoded_once(model: Model, pack: Pack, tmp_path: Path) -> None:
    rows = np.arange(20)
    first = encode_pack(model, pack, rows, tmp_path / "cache")
    np.testing.assert_array_equal(encode_pack(model, pack, rows, tmp_path / "cache"), first)
    assert model.calls == 1
    assert len(files(tmp_path / "cache")) == 1


def test_two_simultaneous_callers_encode_once(
    model: Model, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write_it = arrays.write_chunks

    def write(*args: Any) -> None:
        written.append(args)
        time.sleep(0.2)  # the other one comes meanwhile
        write_it(*args)

    monkeypatch.setattr("diffae.data.feature_cache.write_chunks", write)
    with ThreadPoolExecutor(2) as pool:  # the lock distinguishes threads as it does processes
        codes = list(pool.map(lambda _: encode_pack(model, pack, np.arange(20), tmp_path / "cache"), range(2)))
    np.testing.assert_array_equal(codes[0], codes[1])
    assert len(written) == 1


def test_another_model_pack_or_row_is_another_file(model: Model, pack: Pack, tmp_path: Path) -> None:
    cache, rows = tmp_path / "cache", np.arange(20)
    other_pack = Pack.from_arrays([pixels(seed=1)], tmp_path / "other.pack")
    first = encode_pack(model, pack, rows, cache)
    others = [
        encode_pack(Model(2.0), pack, rows, cache),
        encode_pack(model, other_pack, rows, cache),
        encode_pack(model, pack, rows[::-1], cache),
    ]
    assert len(files(cache)) == 4
    assert all(np.abs(other - first).max() > 0.01 for other in others)


def test_an_interruption_leaves_nothing(model: Model, pack: Pack, tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_pack(model, pack, np.arange(20), tmp_path / "cache", interrupt)
    assert files(tmp_path / "cache") == []


def test_bad_input(model: Model, pack: Pack, tmp_path: Path) -> None:
    small = Pack.from_arrays([pixels(size=8)], tmp_path / "small.pack")
    with pytest.raises(DataError, match=r"images are 3 x 8 pixels: the model is made for 3 x 16"):
        encode_pack(model, small, np.arange(3), tmp_path / "cache")
    with pytest.raises(DataError, match="no images to encode"):
        encode_pack(model, pack, np.arange(0), tmp_path / "cache")
    with pytest.raises(ConfigError, match="this model has no encoder"):
        encode_pack(Model(0), pack, np.arange(3), tmp_path / "cache")
    assert files(tmp_path / "cache") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used"):
        encode_pack(model, pack, np.arange(3), tmp_path / "file" / "cache")


def test_a_full_disk(model: Model, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("diffae.data.feature_cache.write_chunks", full)
    with pytest.raises(TrainingError, match=r"cannot write .*: No space left on device"):
        encode_pack(model, pack, np.arange(3), tmp_path / "cache")


@pytest.mark.parametrize("channels", [1, 3])
def test_vectors_are_those_of_each_image_and_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.setattr("diffae.data.feature_cache._BATCH", 3)
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, channels), dtype=np.uint8)
    pack = Pack.from_arrays([images], tmp_path / "a.pack")
    network, seen = Colours("a"), []
    path = vectors_file(pack, network, seen.append)
    assert seen == [3, 6, 8]
    found = np.load(path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, images.mean(axis=(1, 2)) / 127.5 - 1, atol=1e-5)
    assert vectors_file(pack, network) == path
    assert network.count == 8
    assert vectors_file(pack, Colours("b")) != path


def test_a_network_without_vectors_leaves_nothing(tmp_path: Path) -> None:
    pack = Pack.from_arrays([np.zeros((2, 4, 4, 3), np.uint8)], tmp_path / "a.pack")
    before = sorted(pack.path.iterdir())
    with pytest.raises(DataError, match="gives no feature vector"):
        vectors_file(pack, Colours("maps"))
    assert sorted(pack.path.iterdir()) == before
