"""Students kept as 8-bit differences from their decoder."""

from __future__ import annotations

import pytest
import torch
from tiny import normal

from diffae.model.student_weights import LARGEST, differences, restored

BASE = {"conv.weight": normal(4, 3, 2, 2), "bias": normal(4, seed=1), "gain": torch.tensor(1.0)}
COUNTER = {"seen": torch.tensor([7])}


def moved(size: float) -> dict[str, torch.Tensor]:
    return {name: value + size * torch.randn(value.shape) for name, value in BASE.items()}


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0])
def test_what_is_stored_is_restored_to_half_a_step(size: float) -> None:
    torch.manual_seed(0)
    weights = moved(size) | COUNTER
    stored = differences(weights, BASE)
    assert all(stored[name].dtype == torch.int8 for name in BASE)
    back = restored(stored, BASE)
    assert back.keys() == weights.keys()
    assert back["seen"] is weights["seen"]
    for name, before in BASE.items():
        rows = (weights[name] - before).reshape(before.shape[:1].numel(), -1)
        step = rows.abs().amax(1) / LARGEST
        wrong = (back[name] - weights[name]).reshape(rows.shape).abs()
        assert (wrong <= step[:, None] / 2 + 1e-6).all()
    torch.testing.assert_close(back["bias"], weights["bias"])  # each of a vector has a scale of its own


def test_small_differences_from_coarse_weights_are_kept() -> None:
    base = {name: value.bfloat16() for name, value in BASE.items()}
    weights = {name: value.float() + 1e-4 for name, value in base.items()}
    torch.testing.assert_close(restored(differences(weights, base), base), weights, atol=1e-6, rtol=0)


def test_tensors_of_another_network_fail() -> None:
    stored = differences(moved(1.0), BASE)
    with pytest.raises(KeyError, match="bias"):
        restored(stored, {"conv.weight": BASE["conv.weight"]})
    with pytest.raises(RuntimeError):
        restored(stored, BASE | {"conv.weight": normal(5, 3, 2, 2)})
