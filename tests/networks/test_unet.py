"""The UNet: shapes for any settings, its initial state, the dependence on each input, gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from awake import awake
from torch import Tensor

from diffae.config import ModelConfig, UNetConfig, UNetEncoderConfig, from_dict
from diffae.model import DiffusionModule
from diffae.networks.layers import Attention, Stage
from diffae.networks.settings import Pooling, Upsampling
from diffae.networks.unet import UNet


def config(
    size: int = 16,
    channels: int = 3,
    mult: tuple[int, ...] = (1, 2),
    *,
    res_blocks: int = 1,
    z: int = 6,
    heads: int = 2,
    attention: tuple[int, ...] = (8,),
    dropout: float = 0.0,
    pooling: Pooling = "average",
    z_map: int = 0,
    upsampling: Upsampling = "first",
) -> ModelConfig:
    network = {
        "image_size": size,
        "image_channels": channels,
        "model_channels": 8,
        "channel_mult": mult,
        "res_blocks": res_blocks,
        "attention_resolutions": attention,
        "heads": heads,
        "time_channels": 16,
        "dropout": dropout,
        "z_sem_channels": z,
        "encoder_channel_mult": (*mult, mult[-1]),
        "encoder_res_blocks": res_blocks,
        "encoder_pooling": pooling,
        "z_map_channels": z_map,
        "upsampling": upsampling,
    }
    return from_dict(ModelConfig, {"network": network})


def unet_of(c: ModelConfig) -> UNet:
    unet = c.decoder.build(c.latent_shape, c.z_sem_channels)
    assert isinstance(unet, UNet)
    return unet


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(c: ModelConfig, count: int = 2, seed: int = 1) -> Tensor:
    return normal(count, c.image_channels, c.image_size, c.image_size, seed=seed).clamp(-1, 1)


TIME = torch.tensor([0, 999])

EVERY_KIND = [
    config(channels=1),
    config(channels=2, z=1),
    config(channels=5, size=8, mult=(1, 1)),
    config(size=24, mult=(2, 1, 3), attention=()),
    config(size=32, mult=(1, 2, 2), attention=(16, 8), res_blocks=2),
    config(mult=(3,), attention=(16,), heads=1),
    config(z=700),
    config(size=24, mult=(2, 1, 3), pooling="flatten"),
    config(z=5, z_map=3),
    config(size=24, mult=(2, 1, 3), upsampling="last"),
    config(z=0, pooling="flatten", z_map=3),  # neither has an effect without z_sem
    config(z=0),
    config(z=0, size=12, mult=(2, 3), heads=4),
]


@pytest.mark.parametrize("c", EVERY_KIND)
def test_any_channels_size_and_z_sem(c: ModelConfig) -> None:
    networks = awake(DiffusionModule(c))
    x_t, x_0 = images(c), images(c, seed=2)
    out = networks(x_t, TIME, x_0)
    assert out.shape == x_t.shape
    assert torch.isfinite(out).all()
    assert out.std() > 1e-3
    if networks.encoder is None:
        assert not c.has_encoder
        assert torch.equal(out, networks.decoder(x_t, TIME))
    else:
        z_sem = networks.encoder(x_0)
        assert z_sem.shape == (2, c.z_sem_channels)
        assert torch.equal(out, networks.decoder(x_t, TIME, z_sem))


@pytest.mark.parametrize("z", [0, 6])
def test_an_untrained_unet_returns_zeros(z: int) -> None:
    c = config(z=z)
    x_t, z_sem = images(c), normal(2, z) if z else None
    out = unet_of(c).eval()(x_t, TIME, z_sem)
    assert torch.equal(out, torch.zeros_like(x_t))


def test_unet_depends_on_each_of_its_inputs() -> None:
    c = config()
    unet = awake(unet_of(c))
    x_t, z_sem = images(c), normal(2, 6)
    out = unet(x_t, TIME, z_sem)
    for other in (unet(x_t.flip(0), TIME, z_sem), unet(x_t, TIME.flip(0), z_sem), unet(x_t, TIME, z_sem.flip(0))):
        assert (out - other).abs().max() > 1e-2


def test_images_of_a_batch_are_independent() -> None:
    c = config()
    networks = awake(DiffusionModule(c))
    x_t, x_0, time = images(c, 3), images(c, 3, seed=2), torch.tensor([0, 500, 999])
    whole = networks(x_t, time, x_0)
    for i in range(3):
        torch.testing.assert_close(networks(x_t[i : i + 1], time[i : i + 1], x_0[i : i + 1])[0], whole[i])


def test_unet_written_out_for_one_level() -> None:
    c = config(mult=(1,), attention=())
    unet = awake(unet_of(c))
    x_t, z_sem = images(c), normal(2, 6)
    emb, z = F.silu(unet.time_embed(TIME)), F.silu(z_sem)
    first = unet.input_blocks[0](x_t)
    second = unet.input_blocks[1](first, emb, z)
    h = unet.middle_block(second, emb, z)
    h = unet.output_blocks[0](torch.cat([h, second], 1), emb, z)  # last in, first out
    h = unet.output_blocks[1](torch.cat([h, first], 1), emb, z)
    torch.testing.assert_close(unet(x_t, TIME, z_sem), unet.out(F.silu(unet.out_norm(h))))


def test_z_map_is_added_before_the_bottleneck() -> None:
    c = config(mult=(1, 2), attention=(), z_map=3)
    unet = awake(unet_of(c))
    assert unet.z_map is not None
    z_sem = normal(2, 6)
    thin, _, wide = unet.z_map
    assert isinstance(wide, torch.nn.Conv2d)
    assert wide.bias is not None
    expected = torch.einsum("oc,bchw->bohw", wide.weight[..., 0, 0], thin(z_sem).view(2, 3, 8, 8))
    torch.testing.assert_close(unet.z_map(z_sem), expected + wide.bias[:, None, None])
    seen: list[Tensor] = []
    with unet.middle_block.register_forward_pre_hook(lambda _, given: seen.append(given[0])):
        unet(images(c), TIME, z_sem)
        unet(images(c), TIME, torch.zeros_like(z_sem))
    h = images(c)
    emb, z = F.silu(unet.time_embed(TIME)), F.silu(z_sem)
    for stage in unet.input_blocks:
        h = stage(h, emb, z)
    torch.testing.assert_close(seen[0], h + unet.z_map(z_sem))
    assert (seen[0] - seen[1]).abs().max() > 1e-2


def test_upsampling_last_repeats_pixels_after_the_block() -> None:
    """Both variants have the same weights under the same names."""
    unet, first = awake(unet_of(config(attention=(), upsampling="last"))), unet_of(config(attention=()))
    first.load_state_dict(unet.state_dict())
    x, emb, z = normal(2, 16 + 8, 8, 8), normal(2, 16), normal(2, 6)
    stage = unet.output_blocks[1]  # the last of the lower level
    assert isinstance(stage, Stage)
    merging, rising, _ = stage
    small = rising(merging(x, emb, z), emb, z)
    expected = torch.stack([small, small], dim=-1).flatten(-2)
    expected = torch.stack([expected, expected], dim=-2).flatten(2, 3)
    assert small.shape == (2, 16, 8, 8)
    torch.testing.assert_close(stage(x, emb, z), expected)
    assert first.output_blocks[1](x, emb, z).shape == expected.shape


@pytest.mark.parametrize("c", [EVERY_KIND[3], EVERY_KIND[4]])
def test_skip_connections_have_the_stated_widths_and_sizes(c: ModelConfig) -> None:
    assert isinstance(c.decoder, UNetConfig)
    unet = awake(unet_of(c))
    h, emb, z = images(c), F.silu(unet.time_embed(TIME)), normal(2, c.z_sem_channels)
    shapes = []
    for stage in unet.input_blocks:
        h = stage(h, emb, z)
        shapes.append(tuple(h.shape[1:]))
    mult = c.decoder.channel_mult
    expected = [(mult[0] * 8, c.image_size)]
    for level, m in enumerate(mult):
        expected += [(8 * m, c.image_size >> level)] * c.decoder.res_blocks
        expected += [(8 * m, c.image_size >> level + 1)] if level < len(mult) - 1 else []
    assert shapes == [(width, size, size) for width, size in expected]
    assert len(unet.output_blocks) == len(unet.input_blocks)  # each is used once


def test_attention_acts_at_the_named_resolutions_and_in_the_middle() -> None:
    c = config(size=32, mult=(1, 2, 2), attention=(16,), res_blocks=2)
    seen: list[int] = []
    networks = awake(DiffusionModule(c))
    for module in networks.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _module, _inputs, out: seen.append(out.shape[-1]))
    networks.decoder(images(c), TIME, normal(2, 6))
    assert seen == [16, 16, 8, 16, 16, 16]  # down, middle, up
    seen.clear()
    assert networks.encoder is not None
    networks.encoder(images(c))
    assert seen == [16, 16, 4]


@pytest.mark.parametrize("z", [0, 6])
def test_gradient_reaches_every_parameter(z: int) -> None:
    # normalisation and softmax cancel some biases, but no weights
    c = config(z=z)
    networks = awake(DiffusionModule(c)).train()
    (networks(images(c), TIME, images(c, seed=2)) * normal(2, 3, 16, 16, seed=3)).sum().backward()
    for name, parameter in networks.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if name.endswith("weight"):
            assert parameter.grad.abs().max() > 1e-3, name


def test_gradient_reaches_the_encoder_after_two_steps() -> None:
    """Zero-initialised layers hold it back at first: only the output layer has a gradient."""
    c = config()
    networks = DiffusionModule(c)
    descent = torch.optim.SGD(networks.parameters(), lr=0.1)
    assert networks.encoder is not None
    reached = []
    for _ in range(3):
        descent.zero_grad()
        (networks(images(c), TIME, images(c, seed=2)) - images(c, seed=3)).square().mean().backward()
        reached.append(any(p.grad is not None and bool((p.grad != 0).any()) for p in networks.encoder.parameters()))
        descent.step()
    assert reached == [False, False, True]


@pytest.mark.parametrize("z", [0, 6])
def test_channels_last_gives_the_same(z: int) -> None:
    c = config(z=z, attention=(16, 8))
    networks = awake(DiffusionModule(c))
    x_t, x_0 = images(c), images(c, seed=2)
    expected = networks(x_t, TIME, x_0)
    networks.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    last = torch.channels_last
    got = networks(x_t.contiguous(memory_format=last), TIME, x_0.contiguous(memory_format=last))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_dropout_acts_in_the_unet_and_in_training_only() -> None:
    c = config(dropout=0.5)
    networks = awake(DiffusionModule(c))
    x_t, z_sem = images(c), normal(2, 6)
    assert torch.equal(networks.decoder(x_t, TIME, z_sem), networks.decoder(x_t, TIME, z_sem))
    networks.train()
    assert networks.encoder is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(networks.decoder(x_t, TIME, z_sem), networks.decoder(x_t, TIME, z_sem))
        assert torch.equal(networks.encoder(x_t), networks.encoder(x_t))


def test_patches_are_positions() -> None:
    """Patches of n x n pixels are given as n * n channels to the network of the smaller images."""
    patched = awake(UNetConfig(32, (1, 2), patch_size=2, attention_resolutions=(4,)).build((3, 16, 16), 8))
    pixels = UNetConfig(32, (1, 2), attention_resolutions=(4,)).build((12, 8, 8), 8).eval()
    pixels.load_state_dict(patched.state_dict())
    x_t, time, z_sem = normal(2, 3, 16, 16), torch.tensor([3, 700]), normal(2, 8)
    corners = torch.stack([x_t[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=2).flatten(1, 2)
    expected = pixels(corners, time, z_sem)
    output = patched(x_t, time, z_sem)
    found = torch.stack([output[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=2).flatten(1, 2)
    torch.testing.assert_close(found, expected)
    encoder = UNetEncoderConfig(8, 32, (1, 2), patch_size=2).build((3, 16, 16))
    whole = UNetEncoderConfig(8, 32, (1, 2)).build((12, 8, 8))
    whole.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder(x_t), whole(corners))
