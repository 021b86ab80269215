"""The latent prior's network (paper Table 6) against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from awake import awake
from torch import Tensor, nn

from diffae.networks.mlp import SkipLayer, SkipMLP

TIME = torch.tensor([0, 5, 999])


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_layer_written_out() -> None:
    layer = awake(SkipLayer(4, 5, 3))
    h, time = normal(2, 4), normal(2, 3, seed=2)
    x = (h @ layer.linear.weight.T + layer.linear.bias) * (1 + time @ layer.time.weight.T + layer.time.bias)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    x = x * layer.norm.weight + layer.norm.bias
    torch.testing.assert_close(layer(h, time), x * torch.sigmoid(x))


@pytest.mark.parametrize(("d", "hidden", "layers", "sinusoids"), [(6, 10, 4, 8), (1, 3, 2, 64), (5, 2, 3, 4)])
def test_input_is_seen_again_at_every_layer(d: int, hidden: int, layers: int, sinusoids: int) -> None:
    net = awake(SkipMLP(d, hidden, layers, sinusoids))
    z_t = normal(3, d)
    assert len(net.layers) == layers
    emb = F.silu(net.time_embed(TIME))
    h = net.layers[0](z_t, emb)
    for i in range(1, layers):
        h = torch.cat([h, z_t], dim=1)
        assert h.shape == (3, hidden + d)
        h = net.layers[i](h) if i == layers - 1 else net.layers[i](h, emb)
    assert isinstance(net.layers[-1], nn.Linear)  # without time, normalisation or activation
    out = net(z_t, TIME)
    assert out.shape == (3, d)
    torch.testing.assert_close(out, h)


def test_depends_on_both_inputs() -> None:
    net = awake(SkipMLP(6, 10, 3, 8))
    z_t = normal(3, 6)
    out = net(z_t, TIME)
    assert (out - net(z_t + 1, TIME)).abs().max() > 1e-2
    assert (out - net(z_t, TIME.flip(0))).abs().max() > 1e-2


def test_gradient_reaches_every_parameter() -> None:
    net = awake(SkipMLP(6, 10, 4, 8)).train()
    (net(normal(3, 6), TIME) * normal(3, 6, seed=2)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-4, name
