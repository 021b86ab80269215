"""Published checkpoints (github.com/phizaz/diffae): their format, their tensor names, their architecture from shapes.

A checkpoint is a pickled dict; it is read with `weights_only=True`, so that no pickled code is run. Each tensor of the
published networks has exactly one counterpart here, of the same size; 1x1 convolutions on sequences are linear layers.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffae.config import ModelConfig, NetworkConfig
from diffae.errors import CheckpointError

RENAMES = [
    (r"\bin_layers\.0\.", "norm1."),
    (r"\bin_layers\.2\.", "conv1."),
    (r"\bcond_emb_layers\.1\.", "modulation.z."),
    (r"\bemb_layers\.1\.", "modulation.time."),
    (r"\bout_layers\.0\.", "modulation.norm."),
    (r"\bout_layers\.3\.", "conv2."),
    (r"\bskip_connection\.", "skip."),
    (r"\bproj_out\.", "out."),
    (r"\btime_embed\.time_embed\.", "time_embed."),
    (r"^(encoder\.)?out\.0\.", r"\1out_norm."),
    (r"^out\.2\.", "out."),
    (r"^encoder\.out\.3\.", "encoder.out."),
]
"""Published name -> ours, applied in order."""


def our_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an autoencoder or DDIM under the names of `AutoencoderNetworks`."""
    weights = {}
    for name, tensor in published.items():
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        pointwise = tensor.dim() == 3 or name == "encoder.out.weight"
        weights[name if name.startswith("encoder.") else f"unet.{name}"] = tensor.flatten(1) if pointwise else tensor
    return weights


def our_latent_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a latent net under the names of `SkipMLP`.

    The published layers hold their time projection under two names, `linear_emb` and `cond_layers.1`; the second
    is loaded last there, so it is the one that counts.
    """
    last = max(int(name.split(".")[1]) for name in published if name.startswith("layers."))
    weights = {}
    for name, tensor in published.items():
        if ".linear_emb." not in name:
            name = name.replace(".cond_layers.1.", ".time.")
            weights[name.replace(f"layers.{last}.linear.", f"layers.{last}.")] = tensor
    return weights


def network_config(published: Mapping[str, Tensor], image_size: int, heads: int) -> NetworkConfig:
    """The architecture that has tensors of these names and shapes.

    The encoder is taken to have as many residual blocks per level as the UNet, which shapes cannot tell.

    Raises:
        CheckpointError: tensors that such a network must have are missing.
    """
    try:
        time = published.get("time_embed.time_embed.0.weight", published.get("time_embed.0.weight"))
        if time is None:
            raise KeyError("time_embed.0.weight")
        width = time.shape[1]
        stages = _count(published, "input_blocks")
        levels = 1 + sum(
            f"output_blocks.{i}.{j}.in_layers.0.weight" in published for i in range(stages) for j in (1, 2)
        )
        res_blocks = stages // levels - 1
        mult = _mult(published, "", levels, res_blocks, width)
        attended = {
            image_size >> (i - 1) // (res_blocks + 1)
            for i in range(1, stages)
            if f"input_blocks.{i}.1.qkv.weight" in published
        }
        encoder_levels = _count(published, "encoder.input_blocks") // (res_blocks + 1)
        has_encoder = encoder_levels > 0
        return NetworkConfig(
            image_size=image_size,
            image_channels=published["input_blocks.0.0.weight"].shape[1],
            model_channels=width,
            channel_mult=mult,
            res_blocks=res_blocks,
            attention_resolutions=tuple(sorted(attended, reverse=True)),
            heads=heads,
            time_channels=time.shape[0],
            z_sem_channels=published["encoder.out.3.weight"].shape[0] if has_encoder else 0,
            encoder_channel_mult=_mult(published, "encoder.", encoder_levels, res_blocks, width)
            if has_encoder
            else mult,
            encoder_res_blocks=res_blocks,
        )
    except KeyError as error:
        raise CheckpointError(f"not a published diffusion autoencoder: tensor {error} is missing") from error
    except (IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"not a published diffusion autoencoder: tensors of odd shapes ({error})") from error


def _count(published: Mapping[str, Tensor], path: str) -> int:
    """How many stages a path of the network has."""
    numbers = {int(m[1]) for name in published if (m := re.match(rf"{re.escape(path)}\.(\d+)\.", name))}
    return len(numbers)


def _mult(published: Mapping[str, Tensor], prefix: str, levels: int, res_blocks: int, width: int) -> tuple[int, ...]:
    """Channel multipliers: the width of each level's first block, in units of the base width."""
    first = (1 + level * (res_blocks + 1) for level in range(levels))
    return tuple(published[f"{prefix}input_blocks.{i}.0.in_layers.2.weight"].shape[0] // width for i in first)


def read(path: Path, heads: int, image_size: int | None) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Settings and EMA weights, under our names, of a published autoencoder or DDIM checkpoint.

    Raises:
        CheckpointError: not a file of the published format, or an image size that is nowhere to be found.
    """
    state = _state_dict(path)
    published = {
        name.removeprefix("ema_model."): tensor
        for name, tensor in state.items()
        if name.startswith("ema_model.") and not name.startswith("ema_model.latent_net.")
    }
    if not published:
        raise CheckpointError(f"{path} has no tensors named ema_model.*: it is not a published checkpoint")
    if image_size is None:
        if "x_T" not in state:
            raise CheckpointError(f"{path} does not say its image size (no x_T): give image_size")
        image_size = int(state["x_T"].shape[-1])
    return ModelConfig(network_config(published, image_size, heads)), our_weights(published)


def _state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: give the path of a published last.ckpt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in every imaginable way
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if isinstance(error, pickle.UnpicklingError):
            rule = "holds more than tensors and plain values, so it is not read"
            raise CheckpointError(f"{path} {rule}: {reason}") from error
        raise CheckpointError(
            f"{path} is damaged or not a published checkpoint ({reason}): download it again"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} has no state_dict: it is not a published checkpoint")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
