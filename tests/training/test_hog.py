"""Histograms of oriented gradients, and the loss of their prediction from z_sem."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from training_run import MODEL

from diffae.model import DiffusionModule
from diffae.training.auxiliary_losses.base import AuxiliaryBatch
from diffae.training.auxiliary_losses.hog import BINS, VARIANCE, HOGLoss, oriented_gradients
from diffae.training.settings import HOGConfig


def ramp(angle: float, side: int = 32) -> Tensor:
    """Brightness that rises in the direction `angle`: radians, from left to right turning down."""
    row, column = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    return (0.7 * (math.cos(angle) * column + math.sin(angle) * row))[None, None]


@pytest.mark.parametrize("index", range(BINS))
def test_a_ramp_fills_the_bin_of_its_direction(index: int) -> None:
    """Away from the border, where the gradient is that of the ramp."""
    fine = oriented_gradients(ramp(math.pi * index / BINS))[0, : BINS * 64].view(BINS, 8, 8)[:, 2:-2, 2:-2]
    expected = torch.zeros(BINS)
    expected[index] = 0.7 * 4 / 31  # of two pixels, 32 pixels spanning [-1, 1]
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


@pytest.mark.parametrize(("side", "numbers"), [(8, 36), (16, 144), (32, 720), (64, 1296), (256, 1296)])
def test_the_numbers_of_a_size(side: int, numbers: int) -> None:
    assert oriented_gradients(torch.zeros(1, 1, side, side)).shape == (1, numbers)


def test_loss_is_the_error_of_a_linear_function_of_z_sem() -> None:
    torch.manual_seed(0)
    loss, model = HOGConfig(0.3).build(MODEL, 0), DiffusionModule(MODEL)
    assert isinstance(loss, HOGLoss)
    assert not loss.needs_view
    x, other = torch.rand(3, 3, 16, 16) * 2 - 1, torch.rand(3, 3, 16, 16) * 2 - 1
    target = oriented_gradients(x)
    first, second = ((loss.linear(model.call_encoder(images)) - target).square().mean() for images in (x, other))
    alone = loss(model.call_encoder(x), AuxiliaryBatch(x, None))
    torch.testing.assert_close(alone, first / VARIANCE)
    both = loss(model.call_encoder(torch.cat([x, other])), AuxiliaryBatch(x, None))
    torch.testing.assert_close(both, (first + second) / 2 / VARIANCE)  # the second view has the same target
