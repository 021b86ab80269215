"""The exponential moving average: parameters, buffers, frozen parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffae.training.ema import EMA


class Averaged(nn.Module):
    """A parameter, buffers of three types, and a frozen part."""

    number: Tensor
    running: Tensor
    flag: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.register_buffer("running", torch.tensor([10.0]))
        self.register_buffer("number", torch.tensor(3))
        self.register_buffer("flag", torch.tensor(False))
        self.pretrained = nn.BatchNorm1d(2)
        self.pretrained.frozen = True  # pyright: ignore[reportArgumentType]
        self.train()

    def move(self, step: int) -> None:
        with torch.no_grad():
            self.weight += step + 1
            self.running -= 2 * (step + 1)
            self.number += 1
            self.flag.fill_(step % 2 == 0)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9999])
@pytest.mark.parametrize("warmup", [False, True])
def test_averages_written_out(decay: float, warmup: bool) -> None:
    module = Averaged()
    ema = EMA(module, decay, warmup=warmup)
    weight, running = module.weight.detach().clone(), module.running.clone()
    for step in range(4):
        module.move(step)
        ema.update(step)
        share = min(decay, (1 + step) / (10 + step)) if warmup else decay
        weight = share * weight + (1 - share) * module.weight.detach()
        running = share * running + (1 - share) * module.running
        averaged = ema.averaged
        assert isinstance(averaged, Averaged)
        torch.testing.assert_close(averaged.weight.detach(), weight)
        torch.testing.assert_close(averaged.running, running)
        assert averaged.number == module.number == 4 + step  # copied
        assert averaged.flag == module.flag == (step % 2 == 0)


def test_frozen_parts_are_shared_and_the_rest_is_copied() -> None:
    module = Averaged()
    ema = EMA(module, 0.5, warmup=False)
    averaged = ema.averaged
    assert isinstance(averaged, Averaged)
    assert averaged.pretrained is module.pretrained
    assert averaged.weight is not module.weight
    assert averaged.running is not module.running
    before = {name: tensor.clone() for name, tensor in module.pretrained.state_dict().items()}
    module.move(0)
    ema.update(0)
    for name, tensor in module.pretrained.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_average_is_for_inference() -> None:
    module = Averaged()
    averaged = EMA(module, 0.5, warmup=False).averaged
    assert not averaged.training
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert module.training
    assert module.weight.requires_grad
