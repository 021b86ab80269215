"""Detectors on images that differ in their frequencies, and on images that do not differ."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from tiny import normal
from torch import Tensor, nn

from diffae.errors import DataError
from diffae.evaluation.detectors import (
    Backbone,
    accuracy,
    backbone_detector,
    convolutional_detector,
    frequency_detector,
    log_spectrum,
    quantised,
)
from diffae.evaluation.features import FeatureNetwork
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


def test_a_linear_layer_is_trained_below_a_pretrained_network() -> None:
    network = FeatureNetwork("Colours", lambda x: x.mean(dim=(2, 3)))
    real, fake = noise(60, 1), (noise(60, 2) + 0.1).clamp(-1, 1)
    detect = backbone_detector(Backbone("Colours", "", network), real, fake, 6_400)
    assert accuracy(detect, noise(60, 3), noise(60, 4) + 0.1).mean() > 0.9
    with pytest.raises(DataError, match="3 real and 20 generated"):
        backbone_detector(Backbone("Colours", "", network), noise(3, 1), noise(20, 2), 64)


def test_a_network_of_timm_is_trained_further(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, dict[str, object]]] = []

    def create_model(name: str, **how: object) -> nn.Module:
        made.append((name, how))
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
        nn.init.constant_(network.get_parameter("2.weight"), 20.0)
        return network

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    backbone = Backbone.open("timm:resnet50")
    detect = backbone_detector(backbone, noise(40, 1) - 0.2, noise(40, 2) + 0.2, 12_800)
    assert made == [("resnet50", {"pretrained": True, "num_classes": 1})]
    assert accuracy(detect, noise(40, 3) - 0.2, noise(40, 4) + 0.2).mean() > 0.9
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DataError, match="timm:resnet50 needs timm, which cannot be imported"):
        Backbone.open("timm:resnet50")
