"""First stages: exact transforms against their definitions, autoencoders of diffusers against the library itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from autoencoders import SETTINGS, save_autoencoder
from tiny import images

from diffae.config import ModelConfig, UNetConfig, from_dict, to_dict
from diffae.errors import CheckpointError, ConfigError
from diffae.model.module import DiffusionModule
from diffae.networks.first_stages.pretrained import Autoencoder
from diffae.networks.first_stages.settings import (
    DiffusersConfig,
    HaarConfig,
    SpaceToDepthConfig,
    first_stage_of,
)

SHAPE = (3, 16, 16)
Exact = HaarConfig | SpaceToDepthConfig


# ---------------------------------------------------------------------- without weights


@pytest.mark.parametrize("config", [HaarConfig(2), HaarConfig(8), SpaceToDepthConfig(2), SpaceToDepthConfig(4)])
def test_transforms_are_orthonormal_and_exact(config: Exact) -> None:
    stage: Any = config.build(SHAPE)
    x = images(2).double()
    latents = stage.encode(x)
    assert tuple(latents.shape[1:]) == config.latent_shape(SHAPE)
    torch.testing.assert_close(stage.decode(latents), x, atol=1e-14, rtol=0)
    other = torch.randn_like(latents)
    torch.testing.assert_close((latents * other).sum(), (x * stage.decode(other)).sum())  # the inverse is the transpose
    assert not any(True for _ in stage.parameters())


def test_8_bit_images_come_back_bit_for_bit() -> None:
    pixels = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    x = pixels / 127.5 - 1
    stage: Any = HaarConfig(8).build(SHAPE)
    assert torch.equal(((stage.decode(stage.encode(x)) + 1) * 127.5).round().long(), pixels)
    stage = SpaceToDepthConfig(8).build(SHAPE)
    assert torch.equal(stage.decode(stage.encode(x)), x)


def test_haar_puts_averages_first_and_differences_from_coarse_to_fine() -> None:
    stage: Any = HaarConfig(4).build(SHAPE)
    flat = stage.encode(torch.full((1, 3, 16, 16), 0.5))
    assert torch.equal(flat[:, :3], torch.full((1, 3, 4, 4), 2.0))  # 0.5 times 4, the side
    assert not flat[:, 3:].any()
    coarse, fine = torch.arange(16) // 2 % 2, torch.arange(16) % 2
    for stripes, channels in ((coarse, slice(3, 12)), (fine, slice(12, 48))):
        latents = stage.encode((1.0 - 2 * stripes).expand(1, 3, 16, 16))
        assert latents[:, channels].any()
        latents[:, channels] = 0
        assert not latents.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HaarConfig(3), "factor is 3: must be a power of 2"),
        (lambda: HaarConfig(1), "factor is 1: must be a power of 2"),
        (lambda: SpaceToDepthConfig(1), "factor is 1: must be at least 2"),
        (lambda: ModelConfig(20, first_stage=HaarConfig(8)), "image_size is 20: must be divisible by 8"),
        (lambda: ModelConfig(16, first_stage=SpaceToDepthConfig(3)), "image_size is 16: must be divisible by 3"),
        (lambda: ModelConfig(encoder_input="z"), "encoder_input is 'z': choose one of pixels, latents"),  # pyright: ignore[reportArgumentType]
        (lambda: DiffusersConfig("a", mean=(0.0,), std=(1.0,)), r"mean is \(0.0,\): must have a number for each of 4"),
        (lambda: DiffusersConfig("a", latent_channels=1, mean=(0.0,), std=(0.0,)), r"std is \(0.0,\): must be pos"),
        (lambda: DiffusersConfig("a", latent_channels=1, mean=(0.0,)), r"std is \(\): must be given together"),
    ],
)
def test_settings_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(("text", "config"), [("haar:4", HaarConfig(4)), ("space-to-depth:2", SpaceToDepthConfig(2))])
def test_first_stages_have_names(text: str, config: Exact) -> None:
    assert first_stage_of(text, SHAPE) == config
    model = ModelConfig(16, decoder=UNetConfig(8, (1,)), encoder=None, first_stage=config)
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(model)))) == model


@pytest.mark.parametrize("text", ["haar", "haar:", "haar:x", "haar:-2", "diffusers:", "wavelets:2", ""])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be space-to-depth:N, haar:N, or diffusers:SOURCE"):
        first_stage_of(text, SHAPE)


# ---------------------------------------------------------------------- autoencoders of diffusers


@pytest.mark.parametrize("kind", SETTINGS)
def test_autoencoders_of_all_classes(kind: str, tmp_path: Path) -> None:
    source = save_autoencoder(tmp_path / "theirs", kind)
    config = first_stage_of(f"diffusers:{source}", SHAPE)
    assert isinstance(config, DiffusersConfig)
    stage = config.build(SHAPE)
    assert isinstance(stage, Autoencoder)
    network, x = stage.network, images(9)  # more than one part
    latents = stage.encode(x)
    assert tuple(latents.shape) == (9, *config.latent_shape(SHAPE))
    with torch.no_grad():
        output: Any = network.encode((x[8:] + 1) / 2 if kind == "AutoencoderRAE" else x[8:])  # pyright: ignore[reportCallIssue]
        wanted = output.latent_dist.mean if kind == "AutoencoderKL" else output[0]
        torch.testing.assert_close(latents[8:], wanted)
        back = network.decode(wanted).sample  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        torch.testing.assert_close(stage.decode(latents)[8:], back * 2 - 1 if kind == "AutoencoderRAE" else back)
    assert not any(parameter.requires_grad for parameter in stage.parameters())


@pytest.fixture
def source(tmp_path: Path) -> str:
    return save_autoencoder(tmp_path / "theirs")


def test_latents_are_normalised_and_come_back(source: str) -> None:
    config = DiffusersConfig.read(source, SHAPE)
    assert (config.latent_channels, config.factor, config.image_channels) == (3, 2, 3)
    mean, std = (0.5, -1.0, 2.0), (1.0, 2.0, 4.0)
    plain, stage = config.build(SHAPE), replace(config, mean=mean, std=std).build(SHAPE)
    assert isinstance(plain, Autoencoder)
    assert isinstance(stage, Autoencoder)
    x = images(2)
    wanted = (plain.encode(x) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(stage.encode(x), wanted)
    torch.testing.assert_close(stage.decode(wanted), plain.decode(plain.encode(x)), atol=1e-5, rtol=1e-5)
    assert torch.equal(stage.normalised(stage.encode_raw(x)), stage.encode(x))


def test_half_precision_of_training_does_not_reach_the_first_stage(source: str) -> None:
    stage = DiffusersConfig.read(source, SHAPE).build(SHAPE)
    assert isinstance(stage, Autoencoder)
    x = images(2)
    with torch.autocast("cpu", torch.bfloat16):
        latents = stage.encode(x)
    assert torch.equal(latents, stage.encode(x))


def test_another_version_is_refused(source: str) -> None:
    config = DiffusersConfig.read(source, SHAPE)
    save_autoencoder(Path(source), seed=1)
    with pytest.raises(CheckpointError, match=f"is version .*, and the model was trained with {config.key}"):
        config.build(SHAPE)
    replace(config, key="").build(SHAPE)


def test_the_first_stage_of_a_pipeline(tmp_path: Path) -> None:
    source = save_autoencoder(tmp_path / "pipeline" / "vae")
    assert DiffusersConfig.read(str(tmp_path / "pipeline"), SHAPE).key == DiffusersConfig.read(source, SHAPE).key


def test_it_is_neither_trained_nor_saved(source: str) -> None:
    from diffae import checkpoint

    config = ModelConfig(
        16, decoder=UNetConfig(8, (1, 2)), encoder=None, first_stage=DiffusersConfig.read(source, SHAPE)
    )
    model = DiffusionModule(config)
    assert not [name for name in checkpoint.own_state(model) if name.startswith("first_stage")]
    assert model.decoder(torch.zeros(1, 3, 8, 8), torch.zeros(1).long(), None).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((1, 16, 16), ConfigError, "image_channels is 1: must be 3, the channels of "),
        ((3, 15, 15), ConfigError, "image_size is 15: the first stage .* does not take such images"),
    ],
)
def test_images_that_do_not_fit(source: str, shape: tuple[int, int, int], error: type, message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        DiffusersConfig.read(source, shape)
    assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError):
        DiffusersConfig.read(source, SHAPE).check(shape)


def test_what_is_no_autoencoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    save_autoencoder(tmp_path / "torn")
    weights = tmp_path / "torn" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    for name, message in (
        ("nowhere/at_all", "cannot be read"),
        (str(tmp_path / "empty"), "cannot be read"),
        (str(tmp_path / "other"), "is of class UNet2DModel: must be one of AutoencoderKL"),
        (str(tmp_path / "torn"), "cannot be read"),
    ):
        with pytest.raises(CheckpointError, match=message) as raised:
            DiffusersConfig.read(name, SHAPE)
        assert "\n" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match=r"diffusers is not installed: pip install 'diffae\[diffusers\]'"):
        DiffusersConfig.read("a", SHAPE)
