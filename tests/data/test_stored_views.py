"""What is stored of a pack's images and mirror images: right rows, once, refused where it is not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffae.data.batches import BatchStream
from diffae.data.images import to_float, to_tensor
from diffae.data.pack import Pack
from diffae.data.stored_views import store_views
from diffae.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return Pack.from_arrays([PIXELS], tmp_path / "noise.pack")


class Half:
    """The left half of an image; counts the images."""

    count = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.count += len(images)
        return images[..., :2]


def test_rows_are_those_of_the_images_or_of_their_mirror_images(pack: Pack) -> None:
    compute = Half()
    views = store_views(pack, "a", compute, mirrored=True)
    indices, mirrored = np.array([3, 0, 3]), np.array([False, True, True])
    x = to_tensor(PIXELS[indices])
    x[1:] = x[1:].flip(3)
    torch.testing.assert_close(views.fetch(indices, mirrored), x[..., :2], atol=1e-3, rtol=1e-3)
    assert compute.count == 24
    again = store_views(pack, "a", compute, mirrored=True)
    assert torch.equal(again.fetch(indices, mirrored), views.fetch(indices, mirrored))
    assert compute.count == 24


def test_another_network_is_another_file(pack: Pack) -> None:
    compute = Half()
    store_views(pack, "a", compute, mirrored=False)
    store_views(pack, "b", compute, mirrored=False)
    assert compute.count == 24
    assert len(list(pack.path.glob("views-*.npy"))) == 2


def test_moments_are_those_of_the_channels_over_some_images(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.data.stored_views._BLOCK", 3)
    mean, std = store_views(pack, "a", Half(), mirrored=False).moments(np.arange(2, 10))
    some = to_tensor(PIXELS[2:10])[..., :2].double()
    np.testing.assert_allclose(mean, some.mean(dim=(0, 2, 3)), atol=1e-3)
    np.testing.assert_allclose(std, some.std(dim=(0, 2, 3), correction=0), atol=1e-3)


def test_numbers_that_cannot_be_stored(pack: Pack) -> None:
    with pytest.raises(DataError, match="not finite in float16"):
        store_views(pack, "huge", lambda x: 1e6 * x, mirrored=False)
    assert not list(pack.path.glob("views-*.npy"))


def test_batches_hold_the_rows_of_their_images(pack: Pack) -> None:
    views = store_views(pack, "all", lambda x: x, mirrored=True)
    stream = BatchStream(pack, np.arange(12), 8, seed=0, flip=True, stored={"x": views})
    batch = stream.batch(1)
    torch.testing.assert_close(batch.stored["x"], to_float(batch.images), atol=1e-3, rtol=1e-3)
    assert not torch.equal(batch.images, torch.from_numpy(PIXELS[batch.indices].transpose(0, 3, 1, 2)))  # some flipped
