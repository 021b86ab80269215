"""Checkpoints in the published format, written with a table of names independent of the package's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from tiny import normal, tiny_config, tiny_model
from torch import Tensor

from diffae.config import ModelConfig
from diffae.model import DiffusionAutoencoder
from diffae.networks.mlp import SkipMLP

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
"""Parts of residual blocks and of attention: our name -> the published one."""

D = 6
"""Size of z_sem."""


def config_of(**changes: Any) -> ModelConfig:
    """As `tiny_config`, but of a width that the published code supports."""
    return tiny_config(**{"model_channels": 32, **changes})


def model_of(config: ModelConfig | None = None, seed: int = 0) -> DiffusionAutoencoder:
    """A model that predicts eps, as the published ones do."""
    return tiny_model(config or config_of(), "eps", seed)


def published_name(name: str, has_encoder: bool) -> str:
    """The published name of a tensor of `DiffusionModule`."""
    part, name = name.split(".", 1)
    prefix, outs = ("", ("out.0", "out.2")) if part == "decoder" else ("encoder.", ("out.0", "out.3"))
    if match := re.fullmatch(r"(input_blocks|output_blocks)\.(\d+\.\d+)\.(weight|bias)", name):
        return prefix + match[0]  # the first convolution
    if match := re.fullmatch(r"(input_blocks\.\d+|output_blocks\.\d+|middle_block)\.(\d+)\.(.+)\.(weight|bias)", name):
        return f"{prefix}{match[1]}.{match[2]}.{BLOCK[match[3]]}.{match[4]}"
    if name.startswith("time_embed"):
        return f"time_embed.{name}" if has_encoder else name
    part, kind = name.split(".")
    return f"{prefix}{outs[('out_norm', 'out').index(part)]}.{kind}"


def published_tensors(model: DiffusionAutoencoder) -> dict[str, Tensor]:
    """A model's weights under the published names and in the published shapes."""
    tensors = {}
    for ours, tensor in model.state_dict().items():
        name = published_name(ours, model.config.has_encoder)
        if re.search(r"\.(qkv|proj_out)\.weight", name):
            tensor = tensor[..., None]
        elif name == "encoder.out.3.weight":
            tensor = tensor[..., None, None]
        tensors[name] = tensor
    return tensors


def latent_net() -> SkipMLP:
    """A prior's network with random weights, of 4 layers of 16."""
    net = SkipMLP(D, 16, 4)
    for seed, parameter in enumerate(net.parameters()):
        parameter.data = normal(*parameter.shape, seed=seed) / parameter.shape[-1] ** 0.5
    return net


def latent_tensors(net: SkipMLP) -> dict[str, Tensor]:
    """Weights of a prior's network under the published names."""
    tensors = {}
    for name, tensor in net.state_dict().items():
        if ".time." in name:
            tensors[name.replace("time", "linear_emb")] = tensor
            tensors[name.replace("time", "cond_layers.1")] = tensor
        else:
            tensors[re.sub(r"^layers\.3\.", "layers.3.linear.", name)] = tensor
    return {f"latent_net.{name}": tensor for name, tensor in tensors.items()}


STATS: dict[str, Any] = {"conds_mean": normal(1, D, seed=5), "conds_std": 1 + normal(1, D, seed=6).abs()}


def write(path: Path, tensors: dict[str, Tensor], size: int | None = 16, **more: Any) -> Path:
    """Write a file as published: EMA and raw weights, buffers, the step; `more` are further tensors or entries."""
    buffers = {name: value for name, value in more.items() if isinstance(value, Tensor)}
    rest = {name: value for name, value in more.items() if name not in buffers}
    state = {f"ema_model.{name}": tensor for name, tensor in tensors.items()}
    state |= {f"model.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()}
    if size is not None:
        first = tensors.get("input_blocks.0.0.weight", torch.empty(0, 3))
        state["x_T"] = torch.zeros(4, first.shape[1], size, size)
    torch.save({"state_dict": state | buffers, "global_step": 7, **rest}, path)
    return path


def write_classifier(path: Path, attributes: int = 40, d: int = D, **changes: Any) -> Path:
    """Write a classifier as published; a change to None leaves a tensor out."""
    state: dict[str, Any] = {
        "classifier.weight": normal(attributes, d, seed=7),
        "classifier.bias": normal(attributes, seed=8),
        "ema_classifier.weight": normal(attributes, d, seed=9),
        "ema_classifier.bias": normal(attributes, seed=10),
        **STATS,
        **changes,
    }
    state = {name: value for name, value in state.items() if value is not None}
    torch.save({"state_dict": state, "global_step": 9}, path)
    return path


def write_stats(path: Path, scale: float = 1.0) -> Path:
    """Write a latent.pkl as published."""
    parts = {name: scale * value[0] for name, value in STATS.items()}
    torch.save({"conds": normal(3, D), **parts}, path)
    return path
