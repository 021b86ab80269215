"""z_sem of a pack: what the encoder says, once, and never another's."""

from __future__ import annotations

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_model, tiny_network

from diffae.data import feature_cache as latents
from diffae.data.feature_cache import encode_pack
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError, TrainingError
from diffae.model import DiffusionAutoencoder

COUNT = 300  # more than are read at once


@pytest.fixture(scope="module")
def model() -> DiffusionAutoencoder:
    return tiny_model()


def pixels(seed: int = 0, count: int = COUNT, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return Pack.from_arrays([pixels()], tmp_path / "noise.pack")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_codes_are_the_encoders_in_the_order_of_the_rows(
    model: DiffusionAutoencoder, pack: Pack, tmp_path: Path
) -> None:
    rows = np.random.default_rng(1).permutation(COUNT)[:270]
    seen: list[int] = []
    codes = encode_pack(model, pack, rows, tmp_path / "cache", seen.append)
    expected = model.encode_semantic(to_tensor(pixels()[rows])).numpy()
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes, expected, atol=1e-5)
    assert seen == [256, 270]
    assert isinstance(codes, np.memmap)
    assert not codes.flags.writeable


def test_they_are_encoded_once(model: DiffusionAutoencoder, pack: Pack, tmp_path: Path, monkeypatch) -> None:
    rows = np.arange(20)
    first = encode_pack(model, pack, rows, tmp_path / "cache")
    monkeypatch.setattr(DiffusionAutoencoder, "encode_semantic", None)
    np.testing.assert_array_equal(encode_pack(model, pack, rows, tmp_path / "cache"), first)
    assert len(files(tmp_path / "cache")) == 1


def test_two_that_ask_at_once_encode_once(
    model: DiffusionAutoencoder, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode_it = latents._encode

    def encode(*args: Any) -> None:
        encoded.append(args)
        time.sleep(0.2)  # the other comes meanwhile
        encode_it(*args)

    monkeypatch.setattr(latents, "_encode", encode)
    with ThreadPoolExecutor(2) as pool:  # the lock tells threads apart as it does processes
        codes = list(pool.map(lambda _: encode_pack(model, pack, np.arange(20), tmp_path / "cache"), range(2)))
    np.testing.assert_array_equal(codes[0], codes[1])
    assert len(encoded) == 1


def test_another_model_pack_or_row_is_another_file(model: DiffusionAutoencoder, pack: Pack, tmp_path: Path) -> None:
    cache, rows = tmp_path / "cache", np.arange(20)
    other_pack = Pack.from_arrays([pixels(seed=1)], tmp_path / "other.pack")
    first = encode_pack(model, pack, rows, cache)
    others = [
        encode_pack(tiny_model(seed=5), pack, rows, cache),
        encode_pack(model, other_pack, rows, cache),
        encode_pack(model, pack, rows[::-1], cache),
    ]
    assert len(files(cache)) == 4
    assert all(np.abs(other - first).max() > 0.01 for other in others)


def test_an_interruption_leaves_nothing(model: DiffusionAutoencoder, pack: Pack, tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_pack(model, pack, np.arange(20), tmp_path / "cache", interrupt)
    assert files(tmp_path / "cache") == []


def test_bad_input(model: DiffusionAutoencoder, pack: Pack, tmp_path: Path) -> None:
    small = Pack.from_arrays([pixels(size=8)], tmp_path / "small.pack")
    with pytest.raises(DataError, match=r"images are 3 x 8 pixels: the model is made for 3 x 16"):
        encode_pack(model, small, np.arange(3), tmp_path / "cache")
    with pytest.raises(DataError, match="no images to encode"):
        encode_pack(model, pack, np.arange(0), tmp_path / "cache")
    with pytest.raises(ConfigError, match="this model has no encoder"):
        encode_pack(tiny_model(tiny_network(z_sem_channels=0)), pack, np.arange(3), tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used"):
        encode_pack(model, pack, np.arange(3), tmp_path / "file" / "cache")


def test_a_full_disk(model: DiffusionAutoencoder, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(latents, "_encode", full)
    with pytest.raises(TrainingError, match=r"cannot write .*: No space left on device"):
        encode_pack(model, pack, np.arange(3), tmp_path / "cache")
