"""Settings of published networks, inferred from the names and shapes of their tensors and from stated facts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Any

from torch import Tensor

from diffae.config import DiffusionConfig, ModelConfig, UNetConfig, UNetEncoderConfig
from diffae.diffusion.settings import Schedule
from diffae.errors import CheckpointError

SCHEDULES: dict[str, Schedule] = {"linear": "linear", "cosine": "cosine", "const0.008": "constant"}
"""The published name of a noise schedule -> ours."""

SETTINGS: dict[str, tuple[str, type | UnionType]] = {
    "heads": ("net_beatgans_attn_head", int),
    "image_size": ("img_size", int),
    "encoder_res_blocks": ("net_enc_num_res_blocks", int),
    "schedule": ("beta_scheduler", str),
    "prior_schedule": ("latent_beta_scheduler", str),
    "levels": ("T", int),
    "dropout": ("dropout", int | float),
}
"""Name and type of each fact in a checkpoint's own settings (`hyper_parameters`), which may lack it."""

OF_IMAGES = ("heads", "image_size", "encoder_res_blocks", "schedule", "levels", "dropout")
OF_LATENTS = ("prior_schedule", "levels")


@dataclass(frozen=True)
class Facts:
    """Facts that tensors do not reveal. None: from the checkpoint's settings, else as in the published code."""

    heads: int | None = None
    """Attention heads; published: 1."""
    image_size: int | None = None
    """Side of the images in pixels; by default that of the `x_T` buffer."""
    encoder_res_blocks: int | None = None
    """Residual blocks per level of the encoder; published: as many as the UNet has."""
    schedule: Schedule | None = None
    """Noise schedule of the images; published: linear."""
    prior_schedule: Schedule | None = None
    """Noise schedule of the latent net; published: constant."""
    levels: int | None = None
    """T, the number of noise levels; published: 1000."""
    dropout: float | None = None
    """Dropout of the UNet, for training it further; published: 0.1."""

    def completed(self, settings: Mapping[str, Any], facts: Sequence[str] = OF_IMAGES) -> Facts:
        """These facts, with those that are None taken from a checkpoint's own settings.

        Raises:
            CheckpointError: an unknown noise schedule.
        """
        found: dict[str, Any] = {}
        for fact in facts:
            name, kind = SETTINGS[fact]
            value = settings.get(name)
            if getattr(self, fact) is None and isinstance(value, kind):
                found[fact] = _our_schedule(name, str(value)) if kind is str else value
        return replace(self, **found)


def _our_schedule(name: str, value: str) -> Schedule:
    if value not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise CheckpointError(f"{name} is {value!r} in the checkpoint's settings: known are {known}; state another")
    return SCHEDULES[value]


def model_config(published: Mapping[str, Tensor], facts: Facts) -> ModelConfig:
    """Settings of the autoencoder or DDIM that has tensors of these names and shapes.

    Raises:
        CheckpointError: tensors needed to infer the architecture are missing or have unexpected shapes.
    """
    diffusion = DiffusionConfig(facts.schedule or "linear", facts.levels or 1000)
    try:
        return ModelConfig(**network_settings(published, facts), diffusion=diffusion)
    except KeyError as error:
        raise CheckpointError(f"not a published diffusion autoencoder: tensor {error} is missing") from error
    except (IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"not a published diffusion autoencoder: tensors of odd shapes ({error})") from error


def network_settings(published: Mapping[str, Tensor], facts: Facts) -> dict[str, Any]:
    """Settings of the networks, as arguments of `ModelConfig`, from names and shapes.

    A missing tensor whose neighbours are there is not noticed here, but when the weights are loaded.
    """
    assert facts.image_size is not None
    has_encoder = any(name.startswith("encoder.") for name in published)
    time = published["time_embed.time_embed.0.weight" if has_encoder else "time_embed.0.weight"]
    width = time.shape[1]
    stages = _count(published, "input_blocks")
    levels = 1 + sum(
        _has(published, f"output_blocks.{stage}.{place}.in_layers")  # a block that doubles the size ends a level
        for stage in range(stages)
        for place in (1, 2)
    )
    res_blocks = stages // levels - 1
    encoder_res_blocks = facts.encoder_res_blocks or res_blocks
    mult = _mult(published, "", levels, res_blocks, width)
    encoder_levels = _count(published, "encoder.input_blocks") // (encoder_res_blocks + 1)
    attended = _attended(published, "", res_blocks) | _attended(published, "encoder.", encoder_res_blocks)
    shared = {
        "model_channels": width,
        "attention_resolutions": tuple(facts.image_size >> level for level in sorted(attended)),
        "heads": facts.heads or 1,
    }
    dropout = 0.1 if facts.dropout is None else facts.dropout
    decoder = UNetConfig(
        channel_mult=mult, res_blocks=res_blocks, time_channels=time.shape[0], dropout=dropout, **shared
    )
    encoder = None
    if has_encoder:
        encoder_mult = _mult(published, "encoder.", encoder_levels, encoder_res_blocks, width)
        z_sem_channels = published["encoder.out.3.weight"].shape[0]
        encoder = UNetEncoderConfig(z_sem_channels, channel_mult=encoder_mult, res_blocks=encoder_res_blocks, **shared)
    channels = published["input_blocks.0.0.weight"].shape[1]
    return {"image_size": facts.image_size, "image_channels": channels, "decoder": decoder, "encoder": encoder}


def latent_shape(published: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Size of z_sem, hidden channels and layers of a latent net with tensors of these names and shapes.

    Raises:
        CheckpointError: tensors needed to infer the architecture are missing or have unexpected shapes.
    """
    layers = _count(published, "layers")
    try:
        hidden_channels, z_channels = published["layers.0.linear.weight"].shape
    except KeyError as error:
        raise CheckpointError(f"not a published latent net: tensor {error} is missing") from error
    except ValueError as error:
        raise CheckpointError(f"not a published latent net: tensors of odd shapes ({error})") from error
    if layers < 2:
        raise CheckpointError(f"not a published latent net: it has {layers} layer(s), at least 2 are needed")
    return z_channels, hidden_channels, layers


def _has(published: Mapping[str, Tensor], part: str) -> bool:
    return any(name.startswith(f"{part}.") for name in published)


def _count(published: Mapping[str, Tensor], path: str) -> int:
    """How many stages a path of the network has."""
    numbers = {int(m[1]) for name in published if (m := re.match(rf"{re.escape(path)}\.(\d+)\.", name))}
    return len(numbers)


def _mult(published: Mapping[str, Tensor], prefix: str, levels: int, res_blocks: int, width: int) -> tuple[int, ...]:
    """Channel multipliers: the width of each level's first block, in units of the base width."""
    blocks = (f"{prefix}input_blocks.{1 + level * (res_blocks + 1)}.0.in_layers.2" for level in range(levels))
    told = (f"{block}.{'weight' if f'{block}.weight' in published else 'bias'}" for block in blocks)
    return tuple(published[name].shape[0] // width for name in told)


def _attended(published: Mapping[str, Tensor], prefix: str, res_blocks: int) -> set[int]:
    """The levels whose blocks are followed by self-attention."""
    path = f"{prefix}input_blocks"
    stages = range(1, _count(published, path))
    return {(stage - 1) // (res_blocks + 1) for stage in stages if _has(published, f"{path}.{stage}.1")}
