"""The layers of the networks against naive implementations of their formulas."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from awake import awake
from torch import Tensor, nn

from diffae.config import UNetConfig
from diffae.networks.layers import (
    AdaGN,
    Attention,
    ResBlock,
    Stage,
    Stem,
    TimeEmbedding,
    attend,
    bottleneck,
    contracting_path,
    group_norm,
    resample,
    sinusoidal_embedding,
    zeroed,
)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def naive_group_norm(x: Tensor, groups: int, layer: nn.GroupNorm) -> Tensor:
    b, c, h, w = x.shape
    members = x.view(b, groups, -1)
    mean, variance = members.mean(2, keepdim=True), members.var(2, unbiased=False, keepdim=True)
    normalised = ((members - mean) / (variance + 1e-5).sqrt()).view(b, c, h, w)
    return layer.weight.view(1, c, 1, 1) * normalised + layer.bias.view(1, c, 1, 1)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (2, 2), (5, 1), (6, 2), (32, 32), (48, 16), (64, 32), (512, 32)]
)
def test_group_norm(channels: int, groups: int) -> None:
    layer = awake(group_norm(channels))
    assert layer.num_groups == groups
    x = normal(2, channels, 3, 3)
    torch.testing.assert_close(layer(x), naive_group_norm(x, groups, layer), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "side"), [(64, 8), (48, 31), (64, 32), (512, 4), (64, 1)])
def test_group_norm_keeps_the_layout(channels: int, side: int, dtype: torch.dtype) -> None:
    layer = awake(group_norm(channels)).to(dtype)
    x = (normal(2, channels, side, side) + 1).to(dtype)
    expected = naive_group_norm(x.float(), layer.num_groups, layer.float())
    layer.to(dtype)
    for layout in (torch.contiguous_format, torch.channels_last):
        got = layer(x.contiguous(memory_format=layout))
        assert got.dtype == dtype
        assert got.is_contiguous(memory_format=layout)
        atol, rtol = (1e-5, 1e-4) if dtype == torch.float32 else (0.05, 0.02)
        torch.testing.assert_close(got.float(), expected, atol=atol, rtol=rtol)


def test_thin_groups_in_bfloat16_equal_those_of_the_contiguous_layout() -> None:
    layer, x = awake(group_norm(64)).bfloat16(), normal(2, 64, 16, 16).bfloat16()
    layer.requires_grad_()
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=layout).requires_grad_()
        y = layer(given)
        results.append((y, *torch.autograd.grad(y.float().square().sum(), [given, layer.weight, layer.bias])))
    for contiguous, channels_last in zip(*results, strict=True):
        assert torch.equal(contiguous, channels_last)


def test_zeroed() -> None:
    layer = nn.Conv2d(2, 3, 1)
    assert zeroed(layer) is layer
    assert all((p == 0).all() for p in layer.parameters())


# ------------------------------------------------------------------ time


def test_sinusoidal_embedding() -> None:
    time, channels = torch.tensor([0, 1, 7, 999]), 12
    emb = sinusoidal_embedding(time, channels)
    assert emb.shape == (4, channels)
    for row, t in zip(emb, time.tolist(), strict=True):
        for i in range(channels // 2):
            angle = t / 10_000 ** (i / (channels // 2))
            assert row[i].item() == pytest.approx(math.cos(angle), abs=1e-4)
            assert row[i + channels // 2].item() == pytest.approx(math.sin(angle), abs=1e-4)


def test_sinusoidal_embeddings_of_all_times_differ() -> None:
    emb = sinusoidal_embedding(torch.arange(1000), 32)
    assert torch.allclose(emb.norm(dim=1), torch.tensor(4.0))  # cos^2 + sin^2 = 1, 16 times
    assert torch.equal(emb[0], torch.tensor([1.0] * 16 + [0.0] * 16))
    distance = torch.cdist(emb, emb) + 10 * torch.eye(1000)
    assert distance.min() > 0.1


def test_time_embedding() -> None:
    layer = awake(TimeEmbedding(8, 10))
    first, _, second = layer
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    time = torch.tensor([3, 500])
    h = sinusoidal_embedding(time, 8) @ first.weight.T + first.bias
    expected = h * torch.sigmoid(h) @ second.weight.T + second.bias
    torch.testing.assert_close(layer(time), expected)


# ------------------------------------------------------------------ resampling


def test_down_averages_four_pixels() -> None:
    x = torch.tensor([[1.0, 2.0, 10.0, 20.0], [3.0, 4.0, 30.0, 40.0]]).view(1, 1, 2, 4)
    assert torch.equal(resample(x, "down"), torch.tensor([2.5, 25.0]).view(1, 1, 1, 2))


def test_up_repeats_pixels() -> None:
    x = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    expected = torch.tensor([[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]).view(1, 1, 2, 4)
    assert torch.equal(resample(x, "up"), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 4, 10), (2, 5, 16, 16)])
def test_down_is_average_pooling_in_every_layout(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = normal(*shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
        got, expected = resample(x, "down"), F.avg_pool2d(x, 2)
        assert got.dtype == dtype
        torch.testing.assert_close(got, expected)
        weights = normal(*expected.shape, seed=2).to(dtype)
        gradients = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (got, expected))
        torch.testing.assert_close(*gradients)


def test_down_undoes_up() -> None:
    x = normal(2, 3, 5, 4)
    torch.testing.assert_close(resample(resample(x, "up"), "down"), x)
    assert resample(x, None) is x


# ------------------------------------------------------------------ AdaGN


@pytest.mark.parametrize("z_channels", [0, 1, 7])
@pytest.mark.parametrize("channels", [5, 64])
def test_adagn_is_equation_7(channels: int, z_channels: int) -> None:
    layer = awake(AdaGN(channels, time_channels=6, z_channels=z_channels))
    h, time, z = normal(3, channels, 4, 4), normal(3, 6, seed=2), normal(3, z_channels, seed=3)
    t = time @ layer.time.weight.T + layer.time.bias
    t_scale, t_shift = 1 + t[:, :channels, None, None], t[:, channels:, None, None]
    expected = t_scale * naive_group_norm(h, math.gcd(32, channels), layer.norm) + t_shift
    if z_channels:
        assert layer.z is not None
        z_scale = 1 + (z @ layer.z.weight.T + layer.z.bias)[..., None, None]
        expected = z_scale * expected
    got = layer(h, time, z if z_channels else None)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------ residual blocks


@pytest.mark.parametrize("how", [None, "down", "up"])
def test_residual_block_starts_as_the_identity(how: Literal["down", "up"] | None) -> None:
    block = ResBlock(4, 4, time_channels=6, z_channels=3, how=how)
    x = normal(2, 4, 8, 8)
    assert torch.equal(block(x, normal(2, 6), normal(2, 3)), resample(x, how))


def test_residual_block_of_new_width_starts_as_its_skip() -> None:
    block = ResBlock(4, 6, time_channels=6, z_channels=3)
    x = normal(2, 4, 8, 8)
    assert torch.equal(block(x, normal(2, 6), normal(2, 3)), block.skip(x))


@pytest.mark.parametrize("how", [None, "down", "up"])
@pytest.mark.parametrize("out_channels", [4, 6])
def test_residual_block_written_out(out_channels: int, how: Literal["down", "up"] | None) -> None:
    block = awake(ResBlock(4, out_channels, time_channels=6, z_channels=3, dropout=0.5, how=how))
    x, time, z = normal(2, 4, 8, 8), normal(2, 6, seed=2), normal(2, 3, seed=3)
    assert block.modulation is not None
    h = block.conv1(resample(F.silu(block.norm1(x)), how))
    h = block.conv2(F.silu(block.modulation(h, time, z)))
    skipped = resample(x, how) if out_channels == 4 else block.skip(resample(x, how))
    got = block(x, time, z)
    assert not torch.allclose(got, skipped, atol=1e-3)
    torch.testing.assert_close(got, skipped + h)
    assert not torch.allclose(got, block(x, time + 1, z), atol=1e-3)
    assert not torch.allclose(got, block(x, time, z + 1), atol=1e-3)


def test_encoder_block_has_one_convolution_and_ignores_t_and_z() -> None:
    block = awake(ResBlock(4, 6, how="down"))
    assert sum(p.dim() == 4 and p.shape[-1] == 3 for p in block.parameters()) == 1
    x = normal(2, 4, 8, 8)
    expected = block.skip(resample(x, "down")) + block.conv1(resample(F.silu(block.norm1(x)), "down"))
    torch.testing.assert_close(block(x), expected)
    assert torch.equal(block(x, normal(2, 6), normal(2, 3)), block(x))


def test_dropout_acts_in_training_only() -> None:
    block = awake(ResBlock(4, 4, time_channels=6, dropout=0.5))
    x, time = normal(2, 4, 8, 8), normal(2, 6)
    assert torch.equal(block(x, time), block(x, time))
    block.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(block(x, time), block(x, time))


# ------------------------------------------------------------------ attention


def naive_attention(layer: Attention, x: Tensor) -> Tensor:
    """The published computation: channels first, one head after the other, each with its q, k and v."""
    b, c, h, w = x.shape
    d = c // layer.heads
    qkv = torch.einsum("oc,bcn->bon", layer.qkv.weight, layer.norm(x).view(b, c, h * w)) + layer.qkv.bias[:, None]
    heads = []
    for head in range(layer.heads):
        q, k, v = qkv[:, 3 * d * head : 3 * d * (head + 1)].split(d, dim=1)
        weight = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / math.sqrt(d), dim=2)
        heads.append(torch.einsum("bts,bcs->bct", weight, v))
    out_weight, out_bias = layer.get_parameter("out.weight"), layer.get_parameter("out.bias")
    out = torch.einsum("oc,bcn->bon", out_weight, torch.cat(heads, 1)) + out_bias[:, None]
    return x + out.view(b, c, h, w)


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (8, 2), (12, 4), (5, 5)])
def test_attention_is_softmax_per_head(channels: int, heads: int) -> None:
    layer = awake(Attention(channels, heads))
    x = 3 * normal(2, channels, 3, 5)
    got = layer(x)
    assert not torch.allclose(got, x, atol=1e-2)
    torch.testing.assert_close(got, naive_attention(layer, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n", [15, 1100])
def test_attention_in_bfloat16_is_accurate_to_its_precision(n: int) -> None:
    q, k, v = (2 * normal(1, 2, n, 8, seed=seed) for seed in range(3))
    expected = torch.softmax((q @ k.transpose(2, 3)).double() / 8**0.5, dim=3) @ v.double()
    got = attend(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert got.dtype == torch.bfloat16
    assert (got - expected).square().mean().sqrt() < 0.02 * expected.square().mean().sqrt()


def test_attention_starts_as_the_identity() -> None:
    x = normal(2, 8, 4, 4)
    assert torch.equal(Attention(8, 2)(x), x)


def test_stage_calls_its_blocks_in_turn_with_the_same_conditions() -> None:
    first, second = ResBlock(4, 6, time_channels=3, z_channels=2), Attention(6, 1)
    stage = awake(Stage([first, second]))
    x, time, z = normal(2, 4, 4, 4), normal(2, 3), normal(2, 2)
    assert torch.equal(stage(x, time, z), second(first(x, time, z)))


# ------------------------------------------------------------------ paths


def test_the_bottleneck_is_block_attention_block() -> None:
    stage = bottleneck(UNetConfig(12, (1,), heads=3, norm_groups=4), 12, partial(ResBlock, groups=4))
    assert [type(part) for part in stage] == [ResBlock, Attention, ResBlock]
    assert isinstance(stage[1], Attention)
    assert stage[1].heads == 3
    assert {part.num_groups for part in stage.modules() if isinstance(part, nn.GroupNorm)} == {4}
    x = normal(2, 12, 4, 4)
    assert awake(stage)(x).shape == x.shape


def test_the_contracting_path_is_stem_blocks_with_attention_and_halvings() -> None:
    config = UNetConfig(4, (1, 3), 2, (8,), 2)
    stages, widths = contracting_path(config, (5, 16, 16), ResBlock)
    expected = [[Stem], [ResBlock], [ResBlock], [ResBlock], [ResBlock, Attention], [ResBlock, Attention]]
    assert [[type(part) for part in stage] for stage in stages] == expected
    assert widths == [4, 4, 4, 4, 12, 12]
    x, shapes = normal(1, 5, 16, 16), []
    for stage in stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 16, 16)] * 3 + [(4, 8, 8)] + [(12, 8, 8)] * 2


def test_dropout_acts_before_the_second_convolution() -> None:
    """Whole inputs of it are zeroed, so its bias remains."""
    block = awake(ResBlock(4, 4, time_channels=6, dropout=0.999999)).train()
    x, time = normal(2, 4, 8, 8), normal(2, 6)
    assert block.conv2 is not None
    bias = block.conv2.get_parameter("bias").view(1, 4, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.testing.assert_close(block(x, time), x + bias)
