"""Detectors on images that differ in their frequencies, and on images that do not differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from tiny import normal
from torch import Tensor

from diffae.errors import DataError
from diffae.evaluation.tasks.detection import (
    accuracy,
    convolutional_detector,
    frequency_detector,
    log_spectrum,
    quantised,
)
from diffae.training.settings import TrainingConfig


def noise(count: int, seed: int) -> Tensor:
    return (normal(count, 3, 16, 16, seed=seed) / 3).clamp(-1, 1)


def smooth(count: int, seed: int) -> Tensor:
    return F.avg_pool2d(F.pad(noise(count, seed), (1, 1, 1, 1), "replicate"), 3, 1) * 3


def training(images: int) -> TrainingConfig:
    return TrainingConfig(images=images, batch_size=8, learning_rate=3e-3, ema_decay=0.5, precision="float32")


def test_both_detectors_separate_bright_or_smooth_images_from_others(tmp_path: Path) -> None:
    spectral = frequency_detector(noise(60, 1), smooth(60, 2))
    assert accuracy(spectral, noise(40, 3), smooth(40, 4)).mean() > 0.9
    console = Console(quiet=True)
    real, fake = noise(40, 1) - 0.3, noise(40, 2) * 0.3 + 0.3
    network = [convolutional_detector(real, fake, training(320), tmp_path, "key", console) for _ in "ab"]
    assert accuracy(network[0], noise(20, 3) - 0.3, noise(20, 4) * 0.3 + 0.3).mean() > 0.9
    np.testing.assert_allclose(network[1](real), network[0](real), atol=1e-5)  # read, not trained again


def test_images_of_the_same_kind_are_separated_by_chance_only() -> None:
    detect = frequency_detector(noise(200, 1), noise(200, 2))
    assert 0.35 < accuracy(detect, noise(200, 3), noise(200, 4)).mean() < 0.65


def test_the_spectrum_does_not_see_where_things_are() -> None:
    x = noise(2, 1)
    np.testing.assert_allclose(log_spectrum(x), log_spectrum(x.roll((3, 5), (2, 3))), rtol=1e-6)
    np.testing.assert_allclose(log_spectrum(torch.zeros(1, 1, 4, 4)), np.log(1e-8))
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16).expand(1, 1, 16, 16)
    assert log_spectrum(wave).argmax() == 3


def test_images_are_rounded_to_8_bits() -> None:
    x = quantised(noise(2, 1))
    levels = (x + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 real and 20 generated"):
        frequency_detector(noise(3, 1), noise(20, 2))
    with pytest.raises(DataError, match="at least 8"):
        convolutional_detector(noise(20, 1), noise(2, 2), training(16), tmp_path, "key")
