"""What each tensor is called in published checkpoints and here, and its shape there.

Each tensor of the published networks has exactly one counterpart here, of the same size; 1x1 convolutions on sequences
are linear layers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from torch import nn

from diffae.config import ModelConfig
from diffae.errors import CheckpointError
from diffae.networks.mlp import SkipMLP

RENAMES = [
    (r"^decoder\.", ""),
    (r"\bnorm1\.", "in_layers.0."),
    (r"\bconv1\.", "in_layers.2."),
    (r"\bmodulation\.time\.", "emb_layers.1."),
    (r"\bmodulation\.z\.", "cond_emb_layers.1."),
    (r"\bmodulation\.norm\.", "out_layers.0."),
    (r"\bconv2\.", "out_layers.3."),
    (r"\bskip\.", "skip_connection."),
    (r"(?<=\d)\.out\.", ".proj_out."),
    (r"^encoder\.out\.", "encoder.out.3."),
    (r"^out\.", "out.2."),
    (r"^(encoder\.)?out_norm\.", r"\1out.0."),
]
"""Our name -> the published one, applied in order."""

POINTWISE = (r"\.(qkv|proj_out)\.weight$", r"^encoder\.out\.3\.weight$")
"""Weights of convolutions of size 1, on sequences and on images: theirs end in one and in two dimensions of size 1."""


class Counterpart(NamedTuple):
    """Our name and shape of a published tensor, and its shape there."""

    ours: str
    shape: tuple[int, ...]
    published_shape: tuple[int, ...]


def networks_of(config: ModelConfig) -> nn.ModuleDict:
    """Decoder and encoder, under their names in `DiffusionModule`."""
    networks = nn.ModuleDict({"decoder": config.decoder.build(config.latent_shape, config.z_sem_channels)})
    if config.encoder is not None:
        networks["encoder"] = config.encoder.build(config.image_shape)
    return networks


def autoencoder_names(config: ModelConfig) -> dict[str, Counterpart]:
    """All tensors of a published autoencoder or DDIM, by published name, in the order of `DiffusionModule`.

    Raises:
        CheckpointError: published networks of these widths would normalise other groups of channels than ours.
    """
    with torch.device("meta"):
        networks = networks_of(config)
    for norm in networks.modules():
        if isinstance(norm, nn.GroupNorm) and norm.num_groups != min(32, norm.num_channels):
            rule = "the published code would take 32, or one for each channel where there are fewer"
            groups = f"{norm.num_channels} channels are normalised in {norm.num_groups} groups here"
            raise CheckpointError(f"{groups}, {rule}: only widths that are multiples of 32 carry over")
    names = {}
    for ours, tensor in networks.state_dict().items():
        name, ones = ours, ()
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        if config.has_encoder and name.startswith("time_embed."):
            name = f"time_embed.{name}"
        for count, pattern in enumerate(POINTWISE, 1):
            ones = (1,) * count if re.search(pattern, name) else ones
        names[name] = Counterpart(ours, tuple(tensor.shape), (*tensor.shape, *ones))
    return names


def latent_names(z_channels: int, hidden_channels: int, layers: int) -> dict[str, Counterpart]:
    """All tensors of a published latent net, by published name.

    The published layers hold their time projection under two names, `linear_emb` and `cond_layers.1`; the second
    is loaded last there, so it is the one that counts, and it comes last here.
    """
    with torch.device("meta"):
        network = SkipMLP(z_channels, hidden_channels, layers)
    names = {}
    for ours, tensor in network.state_dict().items():
        linear = ours.replace(f"layers.{layers - 1}.", f"layers.{layers - 1}.linear.")
        both = [ours.replace(".time.", f".{name}.") for name in ("linear_emb", "cond_layers.1")]
        for name in both if ".time." in ours else [linear]:
            names[name] = Counterpart(ours, tuple(tensor.shape), tuple(tensor.shape))
    return names
