"""Lerp and slerp."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from analytic import normal
from torch import Tensor

from diffae.diffusion.interpolation import lerp, slerp

Path = Callable[[Tensor, Tensor, Tensor], Tensor]

WEIGHT = torch.linspace(0, 1, 5)


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    return normal(1, *shape, seed=1, dtype=torch.float32), normal(1, *shape, seed=2, dtype=torch.float32)


@pytest.mark.parametrize("shape", [(6,), (3, 4, 4)])
@pytest.mark.parametrize("path", [lerp, slerp])
def test_both_ends_are_included(path: Path, shape: tuple[int, ...]) -> None:
    a, b = pair(*shape)
    frames = path(a, b, WEIGHT)
    assert frames.shape == (5, *shape)
    torch.testing.assert_close(frames[0], a[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(frames[-1], b[0], rtol=1e-6, atol=1e-6)


def test_lerp_is_straight() -> None:
    a, b = pair(6)
    torch.testing.assert_close(lerp(a, b, torch.tensor([0.25]))[0], (0.75 * a + 0.25 * b)[0])


def test_slerp_by_hand() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    expected = [[math.cos(w * math.pi / 2), math.sin(w * math.pi / 2)] for w in WEIGHT.tolist()]
    torch.testing.assert_close(slerp(a, b, WEIGHT), torch.tensor(expected))


def test_slerp_keeps_the_norm_and_turns_evenly() -> None:
    a, b = pair(3, 8, 8)
    a, b = a / a.norm(), b / b.norm()
    frames = slerp(a, b, WEIGHT).flatten(1)
    torch.testing.assert_close(frames.norm(dim=1), torch.ones(5))
    cosines = (frames[1:] * frames[:-1]).sum(1)
    torch.testing.assert_close(cosines, cosines[:1].expand(4))
    assert lerp(a, b, WEIGHT).flatten(1).norm(dim=1)[2] < 0.9  # unlike a straight line


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_parallel_vectors_fall_back_to_a_line(scale: float) -> None:
    a, _ = pair(3, 4, 4)
    torch.testing.assert_close(slerp(a, scale * a, WEIGHT), lerp(a, scale * a, WEIGHT))


def test_nearly_parallel_vectors() -> None:
    a, b = pair(3, 4, 4)
    b = a + 1e-3 * b
    torch.testing.assert_close(slerp(a, b, WEIGHT), lerp(a, b, WEIGHT), atol=1e-5, rtol=1e-5)


def test_opposite_vectors_stay_finite() -> None:
    """No arc is shortest then, but the result is finite and includes both ends."""
    a, _ = pair(3, 4, 4)
    frames = slerp(a, -a, WEIGHT)
    assert frames.abs().max() <= 2 * a.abs().max()
    torch.testing.assert_close(frames[0], a[0])
    torch.testing.assert_close(frames[-1], -a[0])
