"""The semantic encoder against its formula."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from awake import awake

from diffae.config import UNetEncoderConfig
from diffae.networks.encoders import SemanticEncoder
from diffae.networks.layers import Attention, ResBlock
from diffae.networks.settings import Pooling


def encoder_of(pooling: Pooling = "average", heads: int = 2) -> SemanticEncoder:
    config = UNetEncoderConfig(6, 8, (1, 2, 2), 1, (8,), heads, pooling)
    encoder = config.build((3, 16, 16))
    assert isinstance(encoder, SemanticEncoder)
    return awake(encoder)


def images(seed: int = 1) -> torch.Tensor:
    return torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_encoder_written_out(pooling: Pooling) -> None:
    encoder, h = encoder_of(pooling), images()
    for stage in encoder.input_blocks:
        h = stage(h)
    assert h.shape == (2, 16, 4, 4)  # halved twice
    h = F.silu(encoder.out_norm(encoder.middle_block(h)))
    pooled = h.flatten(2).sum(2) / 16 if pooling == "average" else h.reshape(2, 16 * 16)
    expected = pooled @ encoder.out.weight.T + encoder.out.bias
    assert expected.shape == (2, 6)
    torch.testing.assert_close(encoder(images()), expected)


def test_the_average_ignores_where_features_are_and_the_whole_map_does_not() -> None:
    for pooling in get_args(Pooling):
        encoder = encoder_of(pooling)
        with encoder.middle_block.register_forward_hook(lambda _module, _inputs, out: out.flip(3)):
            mirrored = encoder(images())
        same = torch.allclose(mirrored, encoder(images()), atol=1e-5)
        assert same == (pooling == "average")


def test_blocks_have_one_convolution_and_no_modulation() -> None:
    blocks = [module for module in encoder_of().modules() if isinstance(module, ResBlock)]
    assert len(blocks) == 3 + 2 + 2  # one per level, two that halve, two of the bottleneck
    assert all(block.modulation is None and not hasattr(block, "conv2") for block in blocks)


def test_heads_and_attention_resolutions_are_those_of_the_settings() -> None:
    seen = []
    encoder = encoder_of(heads=4)
    for module in encoder.modules():
        if isinstance(module, Attention):
            assert module.heads == 4
            module.register_forward_hook(lambda _module, _inputs, out: seen.append(out.shape[-1]))
    encoder(images())
    assert seen == [8, 4]  # after the block of 8x8, and in the bottleneck
