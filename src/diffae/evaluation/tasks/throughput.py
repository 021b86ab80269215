"""How many images per second? Training and decoding, measured on this machine (paper Table 7)."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from diffae.config import ModelConfig, Sampling
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Result, Table
from diffae.evaluation.task import Task, count
from diffae.model import DiffusionAutoencoder, default_device

_BATCH = 32


@dataclass(frozen=True)
class Throughput:
    """Images per second, median of several rounds."""

    training: float
    """Forward, backward and Adam on random images, float32, images already in memory."""
    sampling: float
    """Decoding, without the prior."""
    encoding: float | None
    """z_sem; None without an encoder."""
    parameters: int


def measure(config: ModelConfig, *, batch: int, rounds: int, sampling: Sampling | None = None) -> Throughput:
    """Measure newly initialised networks.

    Args:
        config: with or without an encoder.
        batch: images at once.
        rounds: timed repetitions, after one warm-up.
        sampling: how to decode.
    """
    device = default_device()
    model = DiffusionAutoencoder(config).to(device)
    networks = copy.deepcopy(model).to(memory_format=torch.contiguous_format).train()
    generator = torch.Generator().manual_seed(0)
    x_0 = (torch.randn((batch, *model.image_shape), generator=generator) / 2).clamp(-1, 1).to(device)
    optimizer = torch.optim.Adam(networks.parameters(), lr=0.0)

    def train() -> None:
        t = torch.randint(1, model.process.levels + 1, (batch,), device=device)
        latents = networks.to_latents(x_0)
        eps = torch.randn_like(latents)
        scales = model.process.scales(t, x_0.dim())
        output = networks(scales.add_noise(latents, eps), t - 1, x_0)
        model.process.loss(output, latents, eps, scales).backward()
        optimizer.step()
        optimizer.zero_grad()

    z_sem = model.encode_semantic(x_0) if config.has_encoder else None
    x_T = torch.randn((batch, *config.latent_shape), generator=generator)
    return Throughput(
        training=batch / _median_seconds(train, rounds),
        sampling=batch / _median_seconds(lambda: model.decode(z_sem=z_sem, x_T=x_T, sampling=sampling), rounds),
        encoding=batch / _median_seconds(lambda: model.encode_semantic(x_0), rounds) if z_sem is not None else None,
        parameters=sum(parameter.numel() for parameter in networks.parameters()),
    )


def _median_seconds(work: Callable[[], object], rounds: int) -> float:
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[1:])[rounds // 2]


def machine() -> str:
    """Device and PyTorch version, in a few words."""
    device = default_device()
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} thread{'' if threads == 1 else 's'}, PyTorch {torch.__version__}"


@dataclass(frozen=True)
class Counts:
    """How often everything is timed."""

    rounds: int = count(3, 9)
    """Timed repetitions."""


def throughput(context: EvaluationContext, counts: Counts) -> Result:
    """Training and sampling, for the model and for the same network without an encoder."""
    ours, sampling = context.model.config, context.sampling
    configs = {"ours": ours, "DDIM": replace(ours, encoder=None)}
    rows = []
    for whose, config in configs.items():
        with context.progress(f"throughput: {whose}", 1) as done:
            found = measure(config, batch=_BATCH, rounds=counts.rounds, sampling=sampling)
            done(1)
        rows.append((whose, found.parameters, found.training, found.sampling, found.encoding))
    note = (
        f"Median of {counts.rounds} rounds, {_BATCH} images at once, float32, images in memory; {machine()}. "
        f"Sampling is decoding in {sampling.steps} steps; encoding is z_sem alone."
    )
    header = ("model", "parameters", "training, images/s", "sampling, images/s", "encoding, images/s")
    return Result((Table("speed", "Images per second", header, tuple(rows), note),))


TASK = Task("throughput", "Throughput", "Table 7", throughput, Counts)
