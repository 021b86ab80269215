"""A batch is a function of the seed and its number, whatever was read before and by how many processes."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from diffae.data.batches import BatchStream
from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    images = np.random.default_rng(0).integers(0, 256, (25, 4, 4, 3), dtype=np.uint8)
    return Pack.from_arrays([images], tmp_path / "p.pack")


def everything(pack: Pack) -> np.ndarray:
    return pack.fetch(np.arange(len(pack)))


def test_batches_hold_the_images_they_name(pack: Pack) -> None:
    batch = BatchStream(pack, np.arange(25), 8, seed=1, flip=False).batch(3)
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (8, 3, 4, 4)
    assert batch.images.is_contiguous()
    assert np.array_equal(batch.images.numpy(), everything(pack)[batch.indices].transpose(0, 3, 1, 2))
    assert batch.rows.tolist() == list(range(8))


def test_sixteen_bits(tmp_path: Path) -> None:
    images = np.full((3, 4, 4, 1), 40000, np.uint16)
    stream = BatchStream(Pack.from_arrays([images], tmp_path / "p.pack"), np.arange(3), 2, seed=0, flip=True)
    assert stream.batch(0).images.dtype == torch.uint16
    assert stream.batch(0).images.to(torch.int32).unique().tolist() == [40000]


def test_every_image_once_per_epoch_rolling_over(pack: Pack) -> None:
    stream = BatchStream(pack, np.arange(5, 25), 8, seed=1, flip=False)
    drawn = np.concatenate([stream.batch(k).indices for k in range(10)])  # 80 images: 4 epochs of 20
    epochs = drawn.reshape(4, 20)
    assert all(sorted(epoch) == list(range(5, 25)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_fewer_images_than_a_batch(pack: Pack) -> None:
    stream = BatchStream(pack, np.array([2, 4, 9]), 16, seed=1, flip=True)
    drawn = np.concatenate([stream.batch(k).indices for k in range(3)])
    assert np.bincount(drawn)[[2, 4, 9]].tolist() == [16, 16, 16]


def test_batches_do_not_depend_on_those_before(pack: Pack) -> None:
    one = BatchStream(pack, np.arange(25), 8, seed=1, flip=True)
    uninterrupted = list(itertools.islice(one.iterate(0), 12))
    resumed = list(itertools.islice(BatchStream(pack, np.arange(25), 8, seed=1, flip=True).iterate(7), 5))
    backwards = [one.batch(k) for k in reversed(range(12))][::-1]
    for k, batch in enumerate(uninterrupted):
        assert torch.equal(batch.images, backwards[k].images)
    for batch, later in zip(uninterrupted[7:], resumed, strict=True):
        assert torch.equal(batch.images, later.images)
        assert np.array_equal(batch.indices, later.indices)


def test_seeds_differ(pack: Pack) -> None:
    first, second = (BatchStream(pack, np.arange(25), 8, seed=seed, flip=False).batch(0) for seed in (1, 2))
    assert not np.array_equal(first.indices, second.indices)


@pytest.mark.parametrize("world_size", [2, 4])
def test_several_processes_together_see_the_batches_of_one(pack: Pack, world_size: int) -> None:
    alone = BatchStream(pack, np.arange(25), 8, seed=1, flip=True)
    ranks = [BatchStream(pack, np.arange(25), 8, 1, True, rank, world_size) for rank in range(world_size)]
    for k in range(5):
        whole, parts = alone.batch(k), [stream.batch(k) for stream in ranks]
        assert sorted(np.concatenate([part.rows for part in parts])) == list(range(8))
        for part in parts:
            assert torch.equal(part.images, whole.images[part.rows])
            assert np.array_equal(part.indices, whole.indices[part.rows])


def test_about_half_of_the_images_are_mirrored(pack: Pack) -> None:
    stream = BatchStream(pack, np.arange(25), 25, seed=1, flip=True)
    images, mirrored = everything(pack).transpose(0, 3, 1, 2), 0
    for k in range(8):
        batch = stream.batch(k)
        for index, image in zip(batch.indices, batch.images.numpy(), strict=True):
            mirrored += np.array_equal(image, images[index][:, :, ::-1])
            assert np.array_equal(image, images[index]) or np.array_equal(image, images[index][:, :, ::-1])
    assert 70 < mirrored < 130  # of 200


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_the_reading_thread_ends_with_the_iterator(pack: Pack) -> None:
    batches = BatchStream(pack, np.arange(25), 8, seed=1, flip=True).iterate(0)
    assert reading_threads() == []
    next(batches)
    assert len(reading_threads()) == 1
    batches.close()
    assert reading_threads() == []


def test_reading_errors_reach_the_caller(pack: Pack) -> None:
    batches = BatchStream(pack, np.arange(25), 8, seed=1, flip=True).iterate(0)
    next(batches)
    array = pack.path / "images.npy"
    array.write_bytes(array.read_bytes()[:200])
    with pytest.raises(DataError, match="became shorter"):
        list(batches)
    assert reading_threads() == []


def test_one_permutation_per_epoch(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = BatchStream(pack, np.arange(25), 5, seed=1, flip=False)
    drawn = []
    random = stream._random
    monkeypatch.setattr(stream, "_random", lambda *args: (drawn.append(args), random(*args))[1])
    for k in range(15):
        stream.batch(k)
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size is 0"),
        ({"batch_size": 9, "world_size": 2}, ConfigError, "positive multiple of the 2 processes; use 8"),
        ({"rank": 2, "world_size": 2}, ConfigError, "rank is 2 of 2"),
        ({"seed": -1}, ConfigError, "seed is -1"),
        ({"indices": np.arange(0)}, DataError, "no images to draw batches from"),
    ],
)
def test_bad_input(pack: Pack, settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        BatchStream(pack, **{"indices": np.arange(25), "batch_size": 8, "seed": 0, "flip": True, **settings})
