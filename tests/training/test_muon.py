"""Muon: orthogonal steps, and which parameters Adam takes."""

from __future__ import annotations

import copy

import job_steps
import numpy as np
import pytest
import torch
from jobs import run_job
from torch import Tensor, nn

from diffae.networks.layers import AdaGN
from diffae.training.muon import MOMENTUM, SCALE, Muon, orthogonalised, owners

RATE = 0.01


def test_singular_values_become_equal() -> None:
    """U S V^T becomes U D V^T, with D near the identity though S spans two orders of magnitude; any shapes together."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 20), (20, 8), (6, 6), (8, 20), (8, 9)]
    parts = [torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False) for shape in shapes]
    found = orthogonalised([u * torch.logspace(0, -2, len(values)) @ vh for u, values, vh in parts])
    for step, (u, _, vh) in zip(found, parts, strict=True):
        values = u.mT @ step @ vh.mT
        assert values.diagonal().min() > 0.3
        assert values.diagonal().max() < 1.3
        assert (values - values.diagonal().diag()).abs().max() < 1e-4


def test_the_null_space_stays_zero() -> None:
    """Of a product of 16x3 and 3x40, which has three singular values above 0."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(16, 3, generator=generator) @ torch.randn(3, 40, generator=generator)
    values = torch.linalg.svdvals(orthogonalised([matrix])[0])
    assert values[2] > 0.6
    assert values[3] < 1e-3


def test_the_scale_of_a_matrix_has_no_effect() -> None:
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    small, whole, nothing = orthogonalised([1e-4 * matrix, matrix, torch.zeros(8, 8)])
    torch.testing.assert_close(small, whole, atol=1e-4, rtol=0)
    assert nothing.equal(torch.zeros(8, 8))


def gradients(networks: nn.Module, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for parameter in networks.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return [parameter.grad.clone() for parameter in networks.parameters() if parameter.grad is not None]


def test_two_steps_by_hand() -> None:
    """Convolutions and a linear layer; biases and AdaGN as by AdamW."""
    torch.manual_seed(0)
    networks = nn.ModuleList([nn.Conv2d(4, 8, 3), nn.Linear(5, 6), nn.Conv2d(4, 8, 3), AdaGN(4, 3, 2)])
    other, expected = copy.deepcopy(networks), copy.deepcopy(networks)
    muon = Muon(networks, lr=RATE, weight_decay=0.1)
    adam = torch.optim.AdamW(other.parameters(), lr=RATE, weight_decay=0.1)
    matrices = {"0.weight", "1.weight", "2.weight"}
    momenta = [torch.zeros_like(parameter) for parameter in expected.parameters()]
    for seed in range(2):
        gradients(other, seed)
        for parameter, momentum, gradient in zip(
            expected.parameters(), momenta, gradients(networks, seed), strict=True
        ):
            momentum.copy_(MOMENTUM * momentum + (1 - MOMENTUM) * gradient)
            if parameter.dim() > 1:
                ahead = (MOMENTUM * momentum + (1 - MOMENTUM) * gradient).flatten(1)
                step = SCALE * max(ahead.shape) ** 0.5 * orthogonalised([ahead])[0]
                parameter.data.mul_(1 - RATE * 0.1).sub_(RATE * step.view_as(parameter))
        muon.step()
        adam.step()
    by_hand, by_adam = (dict(each.named_parameters()) for each in (expected, other))
    for name, ours in networks.named_parameters():
        torch.testing.assert_close(ours, by_hand[name] if name in matrices else by_adam[name], msg=name)


def test_the_size_of_a_step() -> None:
    layer = nn.Conv2d(16, 16, 3, bias=False)
    before = layer.weight.detach().clone()
    muon = Muon(layer, lr=RATE, weight_decay=0.0)
    gradients(layer, 0)
    muon.step()
    assert (layer.weight - before).square().mean().sqrt().item() == pytest.approx(RATE * 0.4, rel=0.15)


def test_momentum_in_numbers() -> None:
    """Of a row, whose direction a step keeps: gradients (1, 0), then (0, 1), with Nesterov momentum of 0.95."""
    layer = nn.Linear(2, 1, bias=False)
    muon = Muon(layer, lr=RATE, weight_decay=0.0)
    steps = []
    for gradient in ([[1.0, 0.0]], [[0.0, 1.0]]):
        before = layer.weight.detach().clone()
        layer.weight.grad = torch.tensor(gradient)
        muon.step()
        steps.append((before - layer.weight.detach())[0])
    assert steps[0][1] == 0
    mean = 0.95 * 0.05, 0.05  # the running mean after both
    ahead = 0.95 * mean[0], 0.95 * mean[1] + 0.05
    assert (steps[1][0] / steps[1][1]).item() == pytest.approx(ahead[0] / ahead[1], rel=1e-4)


@pytest.mark.parametrize("count", [1, 5])
def test_processes_divide_the_matrices(count: int) -> None:
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=(4 + place % 2, 7)).astype(np.float32) for place in range(count)]
    expected = orthogonalised([torch.from_numpy(matrix) for matrix in matrices])
    for found in run_job(job_steps.orthogonalise, matrices):
        for step, one in zip(found, expected, strict=True):
            np.testing.assert_allclose(step, one.numpy(), rtol=1e-5, atol=1e-6)


def test_processes_have_about_as_much_to_do() -> None:
    assert owners([(8, 8), (4, 4), (4, 4), (4, 90), (2, 2)], 2) == [0, 1, 1, 1, 1]
    assert sorted(owners([(6, 6)] * 6, 3)) == [0, 0, 1, 1, 2, 2]
    assert owners([(3, 3)], 4) == [0]
