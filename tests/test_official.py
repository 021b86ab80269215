"""Published checkpoints, made here under the published names: read back whole, or refused without running anything."""

from __future__ import annotations

import functools
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import images, normal, tiny_model, tiny_network
from torch import Tensor

from diffae import official
from diffae.autoencoder import DiffusionAutoencoder
from diffae.checkpoint import load_weights
from diffae.config import NetworkConfig
from diffae.errors import CheckpointError
from diffae.networks.autoencoder import AutoencoderNetworks

BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "modulation.time": "emb_layers.1",
    "modulation.z": "cond_emb_layers.1",
    "modulation.norm": "out_layers.0",
    "conv2": "out_layers.3",
    "skip": "skip_connection",
    "norm": "norm",
    "qkv": "qkv",
    "out": "proj_out",
}
"""Parts of residual blocks and of attention, ours and as published."""


def published_name(name: str, has_encoder: bool) -> str:
    """The published name of a tensor of `AutoencoderNetworks`."""
    network, name = name.split(".", 1)
    prefix, outs = ("", ("out.0", "out.2")) if network == "unet" else ("encoder.", ("out.0", "out.3"))
    if match := re.fullmatch(r"(input_blocks|output_blocks)\.(\d+\.\d+)\.(weight|bias)", name):
        return prefix + match[0]  # the first convolution
    if match := re.fullmatch(r"(input_blocks\.\d+|output_blocks\.\d+|middle_block)\.(\d+)\.(.+)\.(weight|bias)", name):
        return f"{prefix}{match[1]}.{match[2]}.{BLOCK[match[3]]}.{match[4]}"
    if name.startswith("time_embed"):
        return f"time_embed.{name}" if has_encoder else name
    part, kind = name.split(".")
    return f"{prefix}{outs[('out_norm', 'out').index(part)]}.{kind}"


def published_tensors(model: DiffusionAutoencoder) -> dict[str, Tensor]:
    """The model's weights under the published names and in the published shapes."""
    tensors = {}
    for ours, tensor in model.networks.state_dict().items():
        name = published_name(ours, model.config.network.has_encoder)
        if re.search(r"\.(qkv|proj_out)\.weight", name):
            tensor = tensor[..., None]
        elif name == "encoder.out.3.weight":
            tensor = tensor[..., None, None]
        tensors[name] = tensor
    return tensors


def write(path: Path, tensors: dict[str, Tensor], size: int | None = 16, **more: Any) -> Path:
    """A file as published: EMA weights beside raw ones, buffers, the step."""
    state = {f"ema_model.{name}": tensor for name, tensor in tensors.items()}
    state |= {f"model.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()}
    if size is not None:
        state["x_T"] = torch.zeros(4, 3, size, size)
    state |= {"conds_mean": torch.zeros(1, 6), "conds_std": torch.ones(1, 6)}
    torch.save({"state_dict": state, "global_step": 7, **more}, path)
    return path


ARCHITECTURES = [
    tiny_network(),
    tiny_network(heads=2),
    tiny_network(channel_mult=(1,), encoder_channel_mult=(1, 3), attention_resolutions=()),
    tiny_network(channel_mult=(1, 2, 4), encoder_channel_mult=(1, 2, 4, 4), res_blocks=2, encoder_res_blocks=2),
    tiny_network(channel_mult=(2, 1), encoder_channel_mult=(1,), attention_resolutions=(16, 8)),
    tiny_network(channel_mult=(1, 1, 1), attention_resolutions=(16, 4), res_blocks=3, encoder_res_blocks=3),
    tiny_network(image_channels=1, z_sem_channels=3, time_channels=5),
    tiny_network(z_sem_channels=0, encoder_channel_mult=(1, 2)),
    tiny_network(z_sem_channels=0, channel_mult=(1, 2, 2), encoder_channel_mult=(1, 2, 2), res_blocks=2,
                 encoder_res_blocks=2),
]  # fmt: skip


def test_published_names_by_hand() -> None:
    """The table above, checked at one name of each kind, as in the published files."""
    names = published_tensors(tiny_model()).keys()
    expected = """
        time_embed.time_embed.0.weight  input_blocks.0.0.weight  input_blocks.1.0.in_layers.0.weight
        input_blocks.1.0.in_layers.2.bias  input_blocks.1.0.emb_layers.1.weight  input_blocks.1.0.out_layers.0.bias
        input_blocks.1.0.cond_emb_layers.1.weight  input_blocks.1.0.out_layers.3.weight
        input_blocks.3.0.skip_connection.weight  input_blocks.3.1.norm.weight  input_blocks.3.1.qkv.weight
        input_blocks.3.1.proj_out.bias  middle_block.1.qkv.bias  output_blocks.3.0.in_layers.0.weight
        out.0.weight  out.2.bias  encoder.input_blocks.0.0.bias  encoder.input_blocks.1.0.in_layers.2.weight
        encoder.middle_block.1.proj_out.weight  encoder.out.0.bias  encoder.out.3.weight
    """
    assert set(expected.split()) <= names
    assert len(names) == len(tiny_model().networks.state_dict())


@pytest.mark.parametrize("network", ARCHITECTURES, ids=str)
def test_read_back(tmp_path: Path, network: NetworkConfig) -> None:
    original = tiny_model(network, "eps")
    path = write(tmp_path / "last.ckpt", published_tensors(original))
    model = DiffusionAutoencoder.from_official(path, num_heads=network.heads).to("cpu")
    assert model.config == original.config
    weights = original.networks.state_dict()
    assert model.networks.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.networks.state_dict().items())
    x_t, z_sem = normal(2, *original.image_shape), None
    if network.has_encoder:
        x_0 = images(2, network.image_channels)
        z_sem = original.encode_semantic(x_0)
        assert torch.equal(model.encode_semantic(x_0), z_sem)
    with torch.inference_mode():
        assert torch.equal(model.predict_noise(x_t, 300, z_sem), original.predict_noise(x_t, 300, z_sem))


def test_heads_matter_and_are_told(tmp_path: Path) -> None:
    original = tiny_model(tiny_network(heads=2), "eps")
    path = write(tmp_path / "last.ckpt", published_tensors(original))
    one, x_0 = DiffusionAutoencoder.from_official(path).to("cpu"), images(2)
    assert one.config.network.heads == 1
    assert not torch.allclose(one.encode_semantic(x_0), original.encode_semantic(x_0))


def test_a_latent_net_beside_it_is_passed_over(tmp_path: Path) -> None:
    original = tiny_model()
    tensors = {**published_tensors(original), "latent_net.layers.0.linear.weight": torch.zeros(3, 3)}
    model = DiffusionAutoencoder.from_official(write(tmp_path / "last.ckpt", tensors))
    weights = original.networks.state_dict()
    assert model.networks.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.networks.state_dict().items())


def test_image_size(tmp_path: Path) -> None:
    original = tiny_model(tiny_network(attention_resolutions=()))
    path = write(tmp_path / "last.ckpt", published_tensors(original), size=None)
    with pytest.raises(CheckpointError, match=r"does not say its image size \(no x_T\): give image_size"):
        DiffusionAutoencoder.from_official(path)
    model = DiffusionAutoencoder.from_official(path, image_size=32).to("cpu")
    assert model.image_shape == (3, 32, 32)
    assert model.encode_semantic(images(1, size=32)).shape == (1, 6)


# ------------------------------------------------------------------ refusals


class Foreign:
    """Runs code when it is unpickled by the unwary."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Foreign(trace)))
    assert trace.exists()  # it would have been run
    trace.unlink()
    if how == "torch":
        path = write(tmp_path / "last.ckpt", published_tensors(tiny_model()), callback=Foreign(trace))
    else:
        path = tmp_path / "last.ckpt"
        path.write_bytes(pickle.dumps({"state_dict": Foreign(trace)}, protocol=2))
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values, so it is not read") as caught:
        DiffusionAutoencoder.from_official(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "last.ckpt", published_tensors(tiny_model()))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        DiffusionAutoencoder.from_official(path)


def test_damaged_bytes(tmp_path: Path) -> None:
    """Whatever a damaged pickle makes the reader stumble over, it is one clear error."""
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"ema_model.a": torch.zeros(3)}}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for where in range(0, len(data), 9):
        path.write_bytes(data[:where] + b"\xb6" + data[where + 1 :])
        with pytest.raises(CheckpointError):
            DiffusionAutoencoder.from_official(path, image_size=16)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist: give the path of a published"):
        DiffusionAutoencoder.from_official(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="does not exist"):
        DiffusionAutoencoder.from_official(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(1)}, "not a published checkpoint"),
        ([1, 2], "not a published checkpoint"),
        (torch.zeros(3), "not a published checkpoint"),
        ({"state_dict": 5}, "not a published checkpoint"),
        ({"state_dict": {"weight": torch.zeros(1)}}, r"no tensors named ema_model\.\*"),
        ({"state_dict": {"ema_model.time_embed.0.weight": "text"}}, r"no tensors named ema_model\.\*"),
        (
            {"state_dict": {"ema_model.time_embed.0.weight": torch.zeros(1), "x_T": torch.zeros(1, 3, 8, 8)}},
            "odd shapes",
        ),
        ({"state_dict": {"ema_model.weight": torch.zeros(1), "x_T": torch.zeros(1, 3, 8, 8)}}, "time_embed"),
    ],
)
def test_other_files(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        DiffusionAutoencoder.from_official(path)


@pytest.mark.parametrize("network", [ARCHITECTURES[0], ARCHITECTURES[7]], ids=["encoder", "ddim"])
def test_any_missing_tensor_is_refused(network: NetworkConfig) -> None:
    tensors = published_tensors(tiny_model(network, "eps"))
    build = functools.cache(AutoencoderNetworks)
    for name in tensors:
        rest = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(CheckpointError):  # it tells the architecture, or is missed afterwards
            load_weights(build(official.network_config(rest, 16, 1)), official.our_weights(rest), Path("last.ckpt"))


@pytest.mark.parametrize(
    "name",
    ["time_embed.time_embed.0.weight", "input_blocks.0.0.weight", "input_blocks.3.0.in_layers.2.weight",
     "encoder.out.3.weight", "encoder.input_blocks.3.0.in_layers.2.weight"],
)  # fmt: skip
def test_a_missing_tensor_that_tells_the_architecture_is_named(tmp_path: Path, name: str) -> None:
    tensors = published_tensors(tiny_model())
    del tensors[name]
    with pytest.raises(CheckpointError, match=name.removeprefix("time_embed.")):
        DiffusionAutoencoder.from_official(write(tmp_path / "last.ckpt", tensors))


def test_other_missing_and_unknown_tensors_are_named(tmp_path: Path) -> None:
    tensors = published_tensors(tiny_model())
    path = tmp_path / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"has an unknown tensor 'unet\.novelty\.weight'"):
        DiffusionAutoencoder.from_official(write(path, {**tensors, "novelty.weight": torch.zeros(1)}))
    del tensors["middle_block.2.out_layers.3.bias"]
    with pytest.raises(CheckpointError, match=r"lacks tensor 'unet\.middle_block\.2\.conv2\.bias'"):
        DiffusionAutoencoder.from_official(write(path, tensors))


def test_every_tensor_has_exactly_one_counterpart() -> None:
    model = tiny_model()
    ours = official.our_weights(published_tensors(model))
    state = model.networks.state_dict()
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[name], state[name]) for name in state)
