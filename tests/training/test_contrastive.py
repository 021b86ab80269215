"""The contrast between images: its loss, its views, and what it leaves of a training run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_run import MODEL, TRAINING

from diffae.data.pack import Pack
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.training.autoencoder import train_autoencoder
from diffae.training.auxiliary_losses.contrastive import NUMBERS, TEMPERATURE, contrastive_loss, view

UNCHANGED = (1.0, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.9)
"""Numbers of the view that is the image itself; in the order in which `view` takes them."""
MIRROR, BRIGHTNESS, SATURATION, GRAY = 4, 5, 7, 8


def numbers(changes: dict[int, float], count: int = 2) -> torch.Tensor:
    values = torch.tensor([UNCHANGED] * count)
    for index, value in changes.items():
        values[:, index] = value
    return values


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_loss_is_that_of_its_definition() -> None:
    """Chen et al. 2020, Eq. 1, image by image."""
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 5, 3))
    vectors = [vector / np.linalg.norm(vector) for vector in (*a, *b)]
    losses = []
    for i, vector in enumerate(vectors):
        likeness = [np.exp(vector @ other / TEMPERATURE) for other in vectors]
        partner = (i + 5) % 10
        losses.append(-np.log(likeness[partner] / (sum(likeness) - likeness[i])))
    loss = contrastive_loss(torch.from_numpy(a), torch.from_numpy(b))
    assert loss.item() == pytest.approx(np.mean(losses))


def test_views_that_change_one_thing(images: torch.Tensor) -> None:
    assert torch.allclose(view(images, numbers({})), images, atol=1e-5)
    assert torch.allclose(view(images, numbers({MIRROR: 0.1})), images.flip(3), atol=1e-5)
    assert torch.allclose(view(images, numbers({MIRROR: 0.1}), mirrored=False), images, atol=1e-5)
    assert torch.allclose(view(images, numbers({BRIGHTNESS: 1.0})), images + 0.4, atol=1e-5)
    gray = view(images, numbers({GRAY: 0.1}))
    assert torch.allclose(gray, images.mean(dim=1, keepdim=True).expand_as(images), atol=1e-5)
    more = view(images, numbers({SATURATION: 1.0}))
    assert torch.allclose(more.mean(dim=1), images.mean(dim=1), atol=1e-5)
    assert (more - more.mean(dim=1, keepdim=True)).std() > 1.3 * (images - images.mean(dim=1, keepdim=True)).std()


def test_views_cut_out_a_part() -> None:
    """Of a ramp from left to right: half of its area, at its left end."""
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32).clone()
    left = numbers({0: 0.0, 2: 0.0}, count=1)
    cut = view(ramp, left)[0, 0]
    assert cut[:, 0] == pytest.approx(np.full(32, -1.0), abs=0.05)
    assert cut[:, -1] == pytest.approx(np.full(32, -1 + 2 * 0.5**0.5), abs=0.05)


def test_views_of_any_number_of_channels() -> None:
    drawn = torch.rand((4, NUMBERS), generator=torch.Generator().manual_seed(0))
    for channels in (1, 2, 5):
        assert view(torch.zeros(4, channels, 8, 8), drawn).shape == (4, channels, 8, 8)


def test_training_with_contrast(tmp_path: Path) -> None:
    """It changes the encoder's weights, is resumed, and its projection is not in the model."""
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    pack = Pack.from_arrays([images], tmp_path / "noise.pack")
    with_contrast = dataclasses.replace(TRAINING, contrast=0.1)
    train_autoencoder(pack, tmp_path / "without", MODEL, TRAINING)
    train_autoencoder(pack, tmp_path / "with", MODEL, with_contrast)
    without, trained = (load_file(tmp_path / run / "model.safetensors") for run in ("without", "with"))
    assert trained.keys() == without.keys() == AutoencoderNetworks(MODEL.network).state_dict().keys()
    assert not torch.allclose(trained["encoder.out.weight"], without["encoder.out.weight"], atol=1e-4)
    longer = dataclasses.replace(with_contrast, images=2 * TRAINING.images)
    train_autoencoder(pack, tmp_path / "with", MODEL, longer, resume=True)
    train_autoencoder(pack, tmp_path / "at once", MODEL, longer)
    resumed, at_once = (load_file(tmp_path / run / "model.safetensors") for run in ("with", "at once"))
    assert all(torch.equal(resumed[name], at_once[name]) for name in at_once)


def test_the_baseline_has_nothing_to_contrast(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    pack = Pack.from_arrays([images], tmp_path / "noise.pack")
    baseline = dataclasses.replace(MODEL, network=dataclasses.replace(MODEL.network, z_sem_channels=0))
    assert train_autoencoder(pack, tmp_path / "run", baseline, dataclasses.replace(TRAINING, contrast=0.1))
