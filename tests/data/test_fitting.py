"""Cropping, scaling, and windows of values."""

from __future__ import annotations

import numpy as np
import pytest
from volumes import planes, smooth

from diffae.data.fitting import ImageSpec, apply_window, fit_picture, restore_window
from diffae.data.formats.base import from_array
from diffae.errors import ConfigError, DataError


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_values_go_through_a_window_and_back(dtype: str) -> None:
    values = planes(1, dtype, 3, 120, shape=(9, 9, 2))[0]
    window = ((0.0, 125.0), (3.0, 120.0))
    ready = apply_window(values, window, "a")
    assert ready.dtype == np.uint16
    expected = (values.astype(float) - [0, 3]) / [125, 117] * 65535
    assert np.abs(ready - expected).max() <= 0.5
    back = restore_window(ready, window, dtype)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, values, rtol=0, atol=0 if dtype[0] in "ui" else 125 / 65535)


def test_values_outside_a_window_are_clipped_and_non_finite_ones_refused() -> None:
    values = np.array([[[-5.0], [0.0], [2.0], [9.0]]])
    assert apply_window(values, ((0.0, 4.0),), "a").ravel().tolist() == [0, 0, 32768, 65535]
    for wrong in (np.nan, np.inf):
        with pytest.raises(DataError, match=r"image a: has values that are not finite; replace them"):
            apply_window(np.array([[[wrong]]]), ((0.0, 4.0),), "a")


def test_centre_crop_and_resize_agree_with_box_averages() -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = smooth(32, 32)
    got = fit_picture(from_array(wide), "a", ImageSpec(3, 8))
    boxes = smooth(32, 32).reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    assert np.abs(got - boxes)[1:-1, 1:-1].max() < 2
    assert np.array_equal(fit_picture(from_array(wide), "a", ImageSpec(3, 32)), wide[:, 32:64])  # no scaling, no change


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    got = fit_picture(from_array(stripes), "a", ImageSpec(1, 16))
    assert np.abs(got.astype(int) - 127).max() < 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "channels is 0"),
        ({"size": 0}, "size is 0"),
        ({"crop": (5, 0, 5, 9)}, "0 <= left < right"),
        ({"crop": "mars"}, "crop is 'mars'"),
        ({"background": (0, 0, 256)}, "three values 0..255"),
        ({"window": ((0, 0),) * 3}, "pairs of a low and a higher number"),
        ({"window": ((0, 1),)}, "a low and a high value for each of 3 channels"),
    ],
)
def test_impossible_settings(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSpec(**settings)
