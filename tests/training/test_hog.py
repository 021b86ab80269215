"""Which way the edges run: the histograms of oriented gradients, and what telling them leaves of a training run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_run import MODEL, TRAINING

from diffae.data.pack import Pack
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.training.autoencoder import train_autoencoder
from diffae.training.auxiliary_losses.guided import GuidedNetworks
from diffae.training.auxiliary_losses.hog import BINS, VARIANCE, oriented_gradients

TELLING = dataclasses.replace(TRAINING, orientations=0.3)


def ramp(angle: float, side: int = 32) -> Tensor:
    """Brightness that rises in the direction `angle`, in radians from left to right downwards."""
    row, column = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    return (0.7 * (math.cos(angle) * column + math.sin(angle) * row))[None, None]


@pytest.mark.parametrize("index", range(BINS))
def test_a_ramp_fills_the_bin_of_its_direction(index: int) -> None:
    """Inside the image, where its gradient is that of the ramp, the bin holds all: relative to its neighbourhood 1."""
    fine = oriented_gradients(ramp(math.pi * index / BINS))[0, : BINS * 64].view(BINS, 8, 8)[:, 2:-2, 2:-2]
    expected = torch.zeros(BINS)
    expected[index] = 0.7 * 4 / 31  # two pixels of 32 across [-1, 1]
    expected = (expected / (expected.sum() + 0.02)).sqrt()
    torch.testing.assert_close(fine, expected.view(BINS, 1, 1).expand_as(fine), atol=2e-3, rtol=0)


def test_a_direction_between_two_bins_is_shared() -> None:
    fine = oriented_gradients(ramp(math.pi * 2.25 / BINS))[0, : BINS * 64].view(BINS, 8, 8)[:, 3, 3].square()
    assert (fine[3] / (fine[2] + fine[3])).item() == pytest.approx(0.25, abs=1e-3)
    assert fine[[0, 1, 4, 5, 6, 7, 8]].max() == 0


def test_brightness_and_negatives_change_nothing_and_contrast_little() -> None:
    x_0 = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    numbers = oriented_gradients(x_0)
    torch.testing.assert_close(oriented_gradients(x_0 + 0.4), numbers, atol=1e-3, rtol=0)
    torch.testing.assert_close(oriented_gradients(-x_0), numbers, atol=1e-3, rtol=0)
    torch.testing.assert_close(oriented_gradients(0.5 * x_0), numbers, atol=0.1, rtol=0)


def test_a_blank_image_has_no_edges() -> None:
    assert oriented_gradients(torch.full((1, 3, 32, 32), 0.3)).abs().max() == 0


def test_the_channel_with_the_strongest_edge_decides() -> None:
    level, steep = ramp(0.0) * 0.1, ramp(math.pi / 2)
    torch.testing.assert_close(oriented_gradients(torch.cat([level, steep], 1)), oriented_gradients(steep))


@pytest.mark.parametrize(("side", "numbers"), [(8, 36), (16, 144), (32, 720), (64, 1296), (256, 2448)])
def test_the_numbers_of_a_size(side: int, numbers: int) -> None:
    assert oriented_gradients(torch.zeros(1, 1, side, side)).shape == (1, numbers)


def test_the_error_is_that_of_a_linear_function_of_z_sem() -> None:
    torch.manual_seed(0)
    autoencoder = AutoencoderNetworks(MODEL.network).eval()
    networks = GuidedNetworks(autoencoder, MODEL.network, TELLING, 0)
    x_0, t = torch.rand(3, 3, 16, 16) * 2 - 1, torch.zeros(3, dtype=torch.long)
    assert autoencoder.encoder is not None
    assert networks.sketch is not None
    squared = (networks.sketch(autoencoder.encoder(x_0)) - oriented_gradients(x_0)).square().mean()
    output, further = networks(x_0, t, x_0, None, None)
    assert further.item() == pytest.approx(0.3 * squared.item() / VARIANCE, rel=1e-5)
    assert torch.allclose(output, autoencoder(x_0, t, x_0), atol=1e-5)


def test_training_with_orientations(tmp_path: Path) -> None:
    """It changes the encoder's weights, is resumed, and its linear function is not in the model."""
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    pack = Pack.from_arrays([images], tmp_path / "noise.pack")
    train_autoencoder(pack, tmp_path / "without", MODEL, TRAINING)
    train_autoencoder(pack, tmp_path / "with", MODEL, TELLING)
    without, trained = (load_file(tmp_path / run / "model.safetensors") for run in ("without", "with"))
    assert trained.keys() == without.keys() == AutoencoderNetworks(MODEL.network).state_dict().keys()
    assert not torch.allclose(trained["encoder.out.weight"], without["encoder.out.weight"], atol=1e-4)
    longer = dataclasses.replace(TELLING, images=2 * TRAINING.images)
    train_autoencoder(pack, tmp_path / "with", MODEL, longer, resume=True)
    train_autoencoder(pack, tmp_path / "at once", MODEL, longer)
    resumed, at_once = (load_file(tmp_path / run / "model.safetensors") for run in ("with", "at once"))
    assert all(torch.equal(resumed[name], at_once[name]) for name in at_once)
