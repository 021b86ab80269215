"""The contrastive loss: its value and its views."""

from __future__ import annotations

import job_steps
import numpy as np
import pytest
import torch
from jobs import run_job
from tiny import normal, tiny_config
from training_run import MODEL

from diffae.model import DiffusionModule
from diffae.training.auxiliary_losses.base import AuxiliaryBatch
from diffae.training.auxiliary_losses.contrastive import (
    NUMBERS,
    ContrastiveLoss,
    contrastive_loss,
    view,
)
from diffae.training.settings import ContrastiveConfig

UNCHANGED = (1.0, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.9)
"""Numbers whose view is the image itself, in the order of `view`."""
MIRROR, BRIGHTNESS, SATURATION, GRAY = 4, 5, 7, 8


def numbers(changes: dict[int, float], count: int = 2) -> torch.Tensor:
    values = torch.tensor([UNCHANGED] * count)
    for index, value in changes.items():
        values[:, index] = value
    return values


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_loss_written_out() -> None:
    """Chen et al. 2020, Eq. 1, image by image."""
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 5, 3))
    vectors = [vector / np.linalg.norm(vector) for vector in (*a, *b)]
    losses = []
    for i, vector in enumerate(vectors):
        likeness = [np.exp(vector @ other / 0.2) for other in vectors]
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
    """Half of the area of a ramp, at its left end."""
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32).clone()
    left = numbers({0: 0.0, 2: 0.0}, count=1)
    cut = view(ramp, left)[0, 0]
    assert cut[:, 0] == pytest.approx(np.full(32, -1.0), abs=0.05)
    assert cut[:, -1] == pytest.approx(np.full(32, -1 + 2 * 0.5**0.5), abs=0.05)


def test_views_of_any_number_of_channels() -> None:
    drawn = torch.rand((4, NUMBERS), generator=torch.Generator().manual_seed(0))
    for channels in (1, 2, 5):
        assert view(torch.zeros(4, channels, 8, 8), drawn).shape == (4, channels, 8, 8)


def test_loss_is_between_projections_of_both_views() -> None:
    torch.manual_seed(0)
    loss, model = ContrastiveConfig(0.1).build(MODEL, 0), DiffusionModule(MODEL)
    assert isinstance(loss, ContrastiveLoss)
    assert loss.needs_view
    x, other = torch.randn(3, 3, 16, 16), torch.randn(3, 3, 16, 16)
    first, second = (loss.projection(model.call_encoder(images)) for images in (x, other))
    assert first.shape == (3, 4)  # half of z_sem
    z_sem = model.call_encoder(torch.cat([x, other]))
    torch.testing.assert_close(loss(z_sem, AuxiliaryBatch(x, None)), contrastive_loss(first, second))


@pytest.mark.parametrize("gather", [True, False])
def test_gathered_over_processes_the_loss_and_its_gradients_are_those_of_one(gather: bool) -> None:
    loss, z_sem = ContrastiveLoss(tiny_config(), gather=gather), normal(16, 6)
    found = run_job(job_steps.contrast, loss, z_sem.numpy())
    value = loss(z_sem, AuxiliaryBatch(z_sem, None))
    value.backward()
    expected = [parameter.grad.numpy() for parameter in loss.parameters() if parameter.grad is not None]
    assert all((each == pytest.approx(value.item(), rel=1e-6)) is gather for each, _ in found)
    for _, gradients in found:
        close = [np.allclose(one, other, rtol=1e-5, atol=1e-7) for one, other in zip(gradients, expected, strict=True)]
        assert all(close) if gather else not any(close)
