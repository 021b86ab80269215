"""Training of the latent prior; all z_sem are kept on the device, so no data are loaded during training."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from rich.console import Console
from torch import Tensor, nn

from diffae import checkpoint
from diffae.checkpoint import Fingerprint
from diffae.config import PriorConfig, from_dict, to_dict
from diffae.console import Update
from diffae.console import console as terminal
from diffae.distributed import divided, processes
from diffae.errors import CheckpointError, reading
from diffae.latent.prior import PRIOR, LatentPrior
from diffae.networks.mlp import SkipMLP
from diffae.training.autoencoder import CHANGEABLE, compare_settings, mix
from diffae.training.logger import Logger
from diffae.training.settings import TrainingConfig
from diffae.training.trainer import require_even_shares, train

PAIRS = 4096
"""The validation loss is a mean over at least this many pairs of a held-out code and a level."""
_PART = 1024  # pairs at once

LOG_FOLDER = "prior"
"""Folder in the run for the prior's metrics.jsonl and its state for resuming."""


class PriorTask:
    """Training on codes (a `diffae.training.trainer.Task`).

    Args:
        config, training: what to train, and how.
        codes: z_sem of the training images, (n, d).
        held_out: z_sem of the validation images, (m, d).
        folder: the autoencoder's run folder, where prior.safetensors goes.
        model: the autoencoder's fingerprint.
    """

    def __init__(
        self,
        config: PriorConfig,
        training: TrainingConfig,
        codes: Float32[np.ndarray, "n d"],
        held_out: Float32[np.ndarray, "m d"],
        folder: Path,
        model: Fingerprint,
    ) -> None:
        self.config, self.training, self.folder, self.model = config, training, folder, model
        torch.manual_seed(training.seed)  # weights are initialised from PyTorch's global generator
        self.networks = SkipMLP(codes.shape[1], config.hidden_channels, config.layers)
        z_sem = torch.from_numpy(np.array(codes))
        self.mean, self.std = z_sem.mean(dim=0), z_sem.std(dim=0).clamp(min=1e-6)  # constant numbers stay constant
        self.z_norm = (z_sem - self.mean) / self.std
        self.held_out = (torch.from_numpy(np.array(held_out)) - self.mean) / self.std
        self.process = config.diffusion.build()

    def batches(self, start: int, rank: int, world_size: int) -> Iterator[slice]:
        """This process's rows of the global batch, the same at every step: codes are drawn on the device."""
        yield from itertools.repeat(slice(rank, None, world_size))

    def losses(
        self, networks: nn.Module, batch: slice, step: int, device: torch.device, parts: int
    ) -> Iterator[Tensor]:
        """The loss on each part of the batch; codes, levels and noise are functions of (seed, step)."""
        self.z_norm = self.z_norm.to(device)  # the first time only
        generator = torch.Generator(device).manual_seed(mix(self.training.seed, step))
        size = self.training.batch_size
        codes = torch.randint(len(self.z_norm), (size,), generator=generator, device=device)[batch]
        t = torch.randint(1, self.process.levels + 1, (size,), generator=generator, device=device)[batch]
        eps = torch.randn((size, self.z_norm.shape[1]), generator=generator, device=device)[batch]
        for z, level, noise in zip(self.z_norm[codes].chunk(parts), t.chunk(parts), eps.chunk(parts), strict=True):
            yield self._loss(networks, z, level, noise)

    def _loss(
        self, networks: nn.Module, z_norm: Float[Tensor, "b d"], t: Int[Tensor, " b"], eps: Float[Tensor, "b d"]
    ) -> Float[Tensor, ""]:
        scales = self.process.scales(t, dims=2)
        output = networks(scales.add_noise(z_norm, eps), t - 1).float()
        error = output - scales.target(self.process.prediction, z_norm, eps)
        return error.abs().mean() if self.config.loss == "l1" else error.square().mean()

    def validated(self) -> None:
        """See Task; a prior has no page."""

    @torch.inference_mode()
    def validate(self, networks: nn.Module, images: int, update: Update) -> dict[str, float]:
        """The loss on held-out codes, at fixed noise and levels."""
        device = next(networks.parameters()).device
        generator = torch.Generator().manual_seed(self.training.seed)
        z_norm = self.held_out.repeat(-(-PAIRS // len(self.held_out)), 1)
        t = torch.linspace(1, self.config.diffusion.levels, len(z_norm)).round().long()
        t = t[torch.randperm(len(t), generator=generator)]
        eps = torch.randn(z_norm.shape, generator=generator)

        def total(rows: slice) -> float:
            given = (part[rows].to(device) for part in (z_norm, t, eps))
            return len(t[rows]) * self._loss(networks, *given).item()

        parts = (slice(start, start + _PART) for start in range(0, len(t), _PART))
        return {"val_loss": sum(divided(parts, total, everywhere=True)) / len(t)}

    def prior(self, networks: nn.Module) -> LatentPrior:
        """The prior with these networks."""
        assert isinstance(networks, SkipMLP)
        return LatentPrior(self.config, networks, self.mean, self.std)

    def export(self, networks: nn.Module) -> None:
        """prior.safetensors: the averaged weights, the settings and the codes' mean and standard deviation."""
        self.prior(networks).save(self.folder, self.model, training=to_dict(self.training))


def train_prior(
    folder: str | Path,
    model: Fingerprint,
    codes: Float32[np.ndarray, "n d"],
    held_out: Float32[np.ndarray, "m d"],
    config: PriorConfig,
    training: TrainingConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> bool:
    """Train the latent prior of a run (Section 4); the result is RUN/prior.safetensors.

    Args:
        folder: the autoencoder's run folder.
        model: the autoencoder's fingerprint.
        codes, held_out: z_sem of its training and of its validation images (see `feature_cache.encode_pack`).
        config, training: what to train, and how; `training.images` is the number of codes seen.
        resume: continue from the state last saved; the result is that of an uninterrupted training.
        overwrite: replace a prior that exists.
        console: where progress goes; by default standard error. Only the first of several processes prints.
    Returns:
        True at the end; False when interrupted by Ctrl-C or SIGTERM, with the state saved.
    Raises:
        CheckpointError: a prior that exists, or nothing there to resume with these settings.
        TrainingError: the loss is not finite, or the disk is full.
    """
    folder, console = Path(folder), console or terminal()
    state = processes()
    require_even_shares(training, state.num_processes)
    console.quiet = not state.is_main_process
    task = PriorTask(config, training, codes, held_out, folder, model)
    if state.is_main_process:
        if resume:
            _refuse_differences(folder, model, config, training)
        else:
            refuse_prior(folder, overwrite=overwrite)
            shutil.rmtree(folder / LOG_FOLDER, ignore_errors=True)
        (folder / LOG_FOLDER).mkdir(exist_ok=True)
    state.wait_for_everyone()
    logger = Logger(folder / LOG_FOLDER, training.images, console)
    return train(task, training, folder / LOG_FOLDER, logger, resume=resume)


def refuse_prior(folder: Path, *, overwrite: bool) -> None:
    """Raise `CheckpointError` where a run has a prior already that is not to be replaced."""
    if (folder / PRIOR).exists() and not overwrite:
        raise CheckpointError(f"{folder} has a prior already: continue it with --resume, or replace it by --overwrite")


def settings_of(folder: Path, model: Fingerprint) -> tuple[PriorConfig, TrainingConfig]:
    """How the prior in a run folder was trained.

    Raises:
        CheckpointError: there is none, it is another model's, or it was not trained here.
    """
    prior = LatentPrior.load(folder, model)
    _, texts = checkpoint.read_tensors(folder / PRIOR)
    remedy = "start again with --overwrite"
    with reading(folder / PRIOR, remedy, CheckpointError, "does not say how it was trained"):
        return prior.config, from_dict(TrainingConfig, json.loads(texts["training"]))


def _refuse_differences(folder: Path, model: Fingerprint, config: PriorConfig, training: TrainingConfig) -> None:
    there, trained = settings_of(folder, model)
    wanted = to_dict(training)
    compare_settings(folder / PRIOR, to_dict(config), to_dict(there))
    compare_settings(folder / PRIOR, wanted, to_dict(trained) | {name: wanted[name] for name in CHANGEABLE})
