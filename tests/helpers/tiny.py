"""A tiny model and tiny images."""

from __future__ import annotations

from dataclasses import replace

import torch
from awake import awake
from torch import Tensor

from diffae.config import DiffusionConfig, ModelConfig, from_dict
from diffae.diffusion.settings import Prediction
from diffae.model import DiffusionAutoencoder


def tiny_config(**changes: object) -> ModelConfig:
    """Colour images of 16x16 pixels, z_sem of 6; `changes` are fields of `diffae.NetworkConfig`."""
    settings: dict = {
        "image_size": 16,
        "model_channels": 8,
        "channel_mult": (1, 2),
        "res_blocks": 1,
        "attention_resolutions": (8,),
        "time_channels": 12,
        "z_sem_channels": 6,
        "encoder_channel_mult": (1, 2, 2),
        "encoder_res_blocks": 1,
    }
    return from_dict(ModelConfig, {"network": {**settings, **changes}})


def tiny_model(config: ModelConfig | None = None, prediction: Prediction = "v", seed: int = 0) -> DiffusionAutoencoder:
    """A model all of whose parameters are random, those that start at zero too, so that every part has an effect.

    With prediction "v" its steps can be inverted although it is not trained: x_t keeps about unit variance.
    """
    config = replace(config or tiny_config(), diffusion=DiffusionConfig(prediction=prediction))
    model = awake(DiffusionAutoencoder(config), seed)
    with torch.no_grad():
        model.decoder.get_parameter("out.weight").mul_(0.3)
    return model.to("cpu")  # in the memory layout of a model that was loaded


def normal(*shape: int, seed: int = 1) -> Tensor:
    """N(0, I) from a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(count: int = 5, channels: int = 3, size: int = 16, seed: int = 1) -> Tensor:
    """(b, c, size, size) in [-1, 1]."""
    return (normal(count, channels, size, size, seed=seed) / 2).clamp(-1, 1)
