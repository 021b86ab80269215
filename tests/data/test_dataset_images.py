"""A torch Dataset is training data: every accepted form of an image, and one clear error for any other."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from diffae.data.batches import BatchStream
from diffae.data.dataset_images import DatasetImages
from diffae.data.image_set import ImageSet
from diffae.data.images import to_float
from diffae.data.pack import Pack
from diffae.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)


class Items(Dataset):
    """Item k is form(k)."""

    def __init__(self, form: Callable[[int], Any], count: int = len(IMAGES)) -> None:
        self.form, self.count = form, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.form(index)


def as_float(index: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(IMAGES[index] / 127.5 - 1).permute(2, 0, 1).to(dtype)


FORMS: dict[str, Callable[[int], Any]] = {
    "array": lambda k: IMAGES[k],
    "Pillow": lambda k: Image.fromarray(IMAGES[k]),
    "tuple": lambda k: (IMAGES[k], 7),
    "list": lambda k: [IMAGES[k], "label"],
    "dict": lambda k: {"label": 7, "image": Image.fromarray(IMAGES[k])},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("workers", [0, 3])
def test_forms_of_8_bit_images(form: str, workers: int) -> None:
    images = DatasetImages(Items(FORMS[form]), workers=workers)
    assert (len(images), images.size, images.channels, images.dtype, images.samples) == (12, 6, 3, np.uint8, "uint8")
    order = np.random.default_rng(1).permutation(12)
    assert np.array_equal(images.fetch(order), IMAGES[order])
    assert images.fetch(np.arange(0)).shape == (0, 6, 6, 3)
    assert (images.window, images.skipped) == (None, [])


def test_gray_and_16_bits() -> None:
    deep = IMAGES[..., 0].astype(np.uint16) * 257
    images = DatasetImages(Items(lambda k: deep[k]))
    assert (images.channels, images.dtype) == (1, np.uint16)
    assert np.array_equal(images.fetch(np.array([3]))[0, ..., 0], deep[3])
    assert DatasetImages(Items(lambda k: Image.fromarray(IMAGES[k][..., 0]))).channels == 1
    assert DatasetImages(Items(lambda k: Image.fromarray(deep[k]))).dtype == np.uint16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float_tensors_keep_their_values(dtype: torch.dtype) -> None:
    images = DatasetImages(Items(lambda k: as_float(k, dtype)))
    fetched = images.fetch(np.arange(12))
    assert images.dtype == np.uint16
    assert np.array_equal(fetched, IMAGES.astype(np.uint16) * 257)
    x = to_float(torch.from_numpy(fetched[4]).permute(2, 0, 1))
    torch.testing.assert_close(x, as_float(4), atol=1e-6, rtol=0)


def test_a_tensor_dataset_of_torch() -> None:
    data = torch.stack([as_float(k) for k in range(12)])
    assert DatasetImages(TensorDataset(data, torch.arange(12))).shape == (12, 6, 6, 3)


def test_it_is_an_image_set_and_gives_the_batches_of_a_pack(tmp_path: Path) -> None:
    pack, images = Pack.from_arrays([IMAGES], tmp_path / "a.pack"), DatasetImages(Items(FORMS["tuple"]))
    for some in (pack, images, pickle.loads(pickle.dumps(DatasetImages(TensorDataset(torch.zeros(2, 1, 4, 4)))))):
        assert isinstance(some, ImageSet)
    assert not isinstance(images.dataset, ImageSet)
    assert list(images.names) == list(pack.names)
    for ours, its in zip(images.split(0.3), pack.split(0.3), strict=True):
        assert np.array_equal(ours, its)
    batches = [BatchStream(some, np.arange(12), 5, seed=1, flip=True).batch(2) for some in (pack, images)]
    assert torch.equal(batches[0].images, batches[1].images)


def test_the_key_follows_the_content() -> None:
    def key(form: Callable[[int], Any] = FORMS["array"], count: int = 12, **more: Any) -> str:
        return DatasetImages(Items(form, count), **more).index["key"]

    first = key()
    assert first == key() == key(FORMS["dict"])
    names = [f"{k}.png" for k in range(12)]
    others = [key(lambda k: 255 - IMAGES[k]), key(count=11), key(as_float), key(names=names), key(key="mine")]
    assert len({first, *others}) == 6
    assert others[-1] == "mine"


RULE = r"must be a Pillow image, a uint8 or uint16 array \(h, w\) or \(h, w, c\), or a float tensor \(c, h, w\)"


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda k: "a.png", rf"^dataset image 0 is a str, it {RULE}"),
        (lambda k: None, rf"image 0 is a NoneType, it {RULE}"),
        (lambda k: (), rf"image 0 is a tuple, it {RULE}"),
        (lambda k: {"pixels": IMAGES[k]}, r'image 0 is a dict with the keys pixels, it must have "image"; name it so'),
        (lambda k: IMAGES[k] / 255, rf"image 0 is float64 of shape \(6, 6, 3\), it {RULE}"),
        (lambda k: IMAGES[k][None], rf"image 0 is uint8 of shape \(1, 6, 6, 3\), it {RULE}"),
        (lambda k: torch.from_numpy(IMAGES[k]), rf"image 0 is a torch.uint8 tensor of shape \(6, 6, 3\), it {RULE}"),
        (lambda k: as_float(k)[0], rf"image 0 is a torch.float32 tensor of shape \(6, 6\), it {RULE}"),
        (lambda k: as_float(k) * 2, r"image 0 spans .*, a float tensor must lie in \[-1, 1\]; normalise it"),
        (lambda k: as_float(k) * torch.nan, r"image 0 spans nan\.\.nan"),
        (lambda k: IMAGES[k][:4], r"image 0 has shape \(4, 6, 3\), it must be square; crop it in the dataset"),
        (lambda k: Image.open("gone.png"), r"image 0 cannot be read \(.*gone\.png.*\); check the dataset's files"),
    ],
)
def test_wrong_items(form: Callable[[int], Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        DatasetImages(Items(form))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (IMAGES[0][:4, :4], r"uint8 of shape \(4, 4, 3\)"),
        (IMAGES[0][..., 0], r"uint8 of shape \(6, 6, 1\)"),
        (IMAGES[0].astype(np.uint16), r"uint16 of shape \(6, 6, 3\)"),
    ],
)
def test_images_that_differ_are_named(other: np.ndarray, what: str) -> None:
    images = DatasetImages(Items(lambda k: other if k == 5 else IMAGES[k]), key="known")
    with pytest.raises(DataError, match=rf"^dataset image 5 is {what}, the first is uint8 of shape \(6, 6, 3\)"):
        images.fetch(np.array([4, 5]))


def test_other_refusals() -> None:
    with pytest.raises(DataError, match="dataset Items is empty, at least one image is needed"):
        DatasetImages(Items(FORMS["array"], 0))
    with pytest.raises(DataError, match="got 2 names for 12 images"):
        DatasetImages(Items(FORMS["array"]), names=["a", "b"])
    for stream in (iter(IMAGES), 7):
        with pytest.raises(DataError, match="must have a length and items by index; use a map-style Dataset"):
            DatasetImages(stream)
    for index in (-1, 12):
        with pytest.raises(IndexError, match=r"must lie in 0\.\.11"):
            DatasetImages(Items(FORMS["array"])).fetch(np.array([0, index]))
