"""A tiny model with a life of its own, for tests of what a user holds."""

from __future__ import annotations

import torch
from torch import Tensor

from diffae.config import DiffusionConfig, ModelConfig, NetworkConfig, Prediction
from diffae.model import DiffusionAutoencoder
from diffae.networks.autoencoder import AutoencoderNetworks


def tiny_network(**changes: object) -> NetworkConfig:
    """Colour images of 16x16 pixels, z_sem of 6; `changes` are fields of `NetworkConfig`."""
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
    return NetworkConfig(**{**settings, **changes})


def tiny_model(
    network: NetworkConfig | None = None, prediction: Prediction = "v", seed: int = 0
) -> DiffusionAutoencoder:
    """A model with all weights drawn anew, those that start at zero too, so that every part has an effect.

    With prediction "v" its steps can be inverted, though it is not trained: x_t then stays of size 1 on the way.
    """
    config = ModelConfig(network or tiny_network(), DiffusionConfig(prediction=prediction))
    networks = AutoencoderNetworks(config.network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in networks.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + (1 if name.endswith("weight") else 0))  # weights of norms are about 1
        networks.unet.get_parameter("out.weight").mul_(0.3)
    return DiffusionAutoencoder(config, networks).to("cpu")  # laid out as one that was read


def normal(*shape: int, seed: int = 1) -> Tensor:
    """N(0, I) from a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(count: int = 5, channels: int = 3, size: int = 16, seed: int = 1) -> Tensor:
    """(b, c, size, size) in [-1, 1]."""
    return (normal(count, channels, size, size, seed=seed) / 2).clamp(-1, 1)
