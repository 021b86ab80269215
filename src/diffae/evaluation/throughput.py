"""How many images a second? Training and decoding, measured on this machine (paper Table 7)."""

from __future__ import annotations

import copy
import platform
import time
from dataclasses import dataclass

import torch

from diffae.config import ModelConfig, Sampling
from diffae.device import default_device
from diffae.diffusion.process import Scales
from diffae.model import DiffusionAutoencoder
from diffae.networks.autoencoder import AutoencoderNetworks


@dataclass(frozen=True)
class Throughput:
    """Images a second, median of several rounds."""

    training: float
    """Forward, backward and Adam on random images, float32, images already in memory."""
    sampling: float
    """Decoding; the prior, where there is one, comes on top."""
    encoding: float | None
    """z_sem; None without an encoder."""
    parameters: int


def throughput(config: ModelConfig, *, batch: int, rounds: int, sampling: Sampling | None = None) -> Throughput:
    """Measure networks of a configuration, with new weights.

    Args:
        config: with or without an encoder.
        batch: images at once.
        rounds: timed repetitions, after one that is not.
        sampling: of decoding.
    """
    device = default_device()
    networks = AutoencoderNetworks(config.network).to(device)
    model = DiffusionAutoencoder(config, copy.deepcopy(networks)).to(device)  # in the layout for inference
    generator = torch.Generator().manual_seed(0)
    x_0 = (torch.randn((batch, *model.image_shape), generator=generator) / 2).clamp(-1, 1).to(device)
    optimizer = torch.optim.Adam(networks.parameters(), lr=0.0)

    def train() -> None:
        t = torch.randint(1, len(model.alpha_bar), (batch,), device=device)
        eps = torch.randn_like(x_0)
        scales = Scales.at(model.alpha_bar, t, x_0.dim())
        output = networks(scales.add_noise(x_0, eps), t - 1, x_0)
        (output - scales.target(config.diffusion.prediction, x_0, eps)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    z_sem = model.encode_semantic(x_0) if config.network.has_encoder else None
    x_T = torch.randn((batch, *model.image_shape), generator=generator)
    return Throughput(
        training=batch / _median_seconds(train, rounds),
        sampling=batch / _median_seconds(lambda: model.decode(z_sem=z_sem, x_T=x_T, sampling=sampling), rounds),
        encoding=batch / _median_seconds(lambda: model.encode_semantic(x_0), rounds) if z_sem is not None else None,
        parameters=sum(parameter.numel() for parameter in networks.parameters()),
    )


def _median_seconds(work, rounds: int) -> float:
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[1:])[rounds // 2]


def machine() -> str:
    """What the numbers were measured on, in a few words."""
    device = default_device()
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} thread{'' if threads == 1 else 's'}, PyTorch {torch.__version__}"
