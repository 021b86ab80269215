"""What decoding leaves of 8-bit images restores them bit for bit, in memory, from a file and from a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_config, tiny_model

from diffae.config import InputConfig, Sampling
from diffae.data.images import to_samples, to_tensor
from diffae.errors import ConfigError
from diffae.latent import differences
from diffae.latent.codes import Code, StoredCodes, load_codes, save_codes
from diffae.latent.differences import differences_of, require_8_bits, restored

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
POOR = Sampling(2, inversion="explicit")


@pytest.fixture(scope="module")
def decoded() -> tuple[np.ndarray, list[bytes]]:
    """What a model makes of the images with too few steps, and the differences, found in two batches."""
    model = tiny_model()
    code = model.encode(to_tensor(PIXELS), POOR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(differences, "BATCH", 2)
        found = differences_of(model, code, [*PIXELS], POOR)
    parts = [model.decode(code[rows], sampling=POOR) for rows in (slice(0, 2), slice(2, 3))]
    return np.concatenate([to_samples(part, model.config.input) for part in parts]), found


def test_images_are_restored(decoded: tuple[np.ndarray, list[bytes]]) -> None:
    images, found = decoded
    assert not np.array_equal(images, PIXELS)
    for image, difference, original in zip(images, found, PIXELS, strict=True):
        again, exact = restored(image, difference)
        assert exact
        np.testing.assert_array_equal(again, original)


def test_another_rounding_is_noticed(decoded: tuple[np.ndarray, list[bytes]]) -> None:
    image = decoded[0][0].copy()
    image[0, 0, 0] += 1
    again, exact = restored(image, decoded[1][0])
    assert not exact
    assert (again != PIXELS[0]).sum() == 1


def test_damage_is_an_error(decoded: tuple[np.ndarray, list[bytes]]) -> None:
    with pytest.raises(ValueError, match="a difference is damaged"):
        restored(decoded[0][0], decoded[1][0][:-9])


def test_images_of_16_bits_have_none() -> None:
    model = tiny_model()
    x = to_tensor(PIXELS[:1])
    assert differences_of(model, model.encode(x, POOR), [PIXELS[0].astype(np.uint16)], POOR) == [b""]
    require_8_bits(tiny_config())
    with pytest.raises(ConfigError, match="residual is 'uint16': needs a model of 8-bit images"):
        require_8_bits(replace(tiny_config(), input=InputConfig(dtype="uint16")))


def test_they_are_stored_with_the_codes(decoded: tuple[np.ndarray, list[bytes]], tmp_path: Path) -> None:
    code = Code(to_tensor(PIXELS).mean(dim=(2, 3)))
    stored = StoredCodes(["a", "b", "c"], "0", POOR, code.z_sem, differences=decoded[1])
    save_codes(tmp_path / "codes.safetensors", stored)
    assert [*load_codes(tmp_path / "codes.safetensors").differences] == decoded[1]
    save_codes(tmp_path / "codes.safetensors", replace(stored, differences=()))
    assert not load_codes(tmp_path / "codes.safetensors").differences
