"""Training the autoencoder, or the paper's DDIM baseline: the loss of Eq. 6, validation, pictures, the run folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor, nn

from diffae import checkpoint
from diffae.config import ModelConfig, TrainingConfig, from_dict
from diffae.data.batches import Batch, BatchStream
from diffae.data.images import to_float
from diffae.data.pack import Pack
from diffae.diffusion.levels import draw_levels
from diffae.diffusion.process import Scales
from diffae.diffusion.schedules import alpha_bar_of
from diffae.errors import CheckpointError, DataError, require
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.training.auxiliary_losses.contrastive import NUMBERS, view
from diffae.training.auxiliary_losses.distillation import Teacher
from diffae.training.auxiliary_losses.guided import GuidedNetworks
from diffae.training.logger import Journal
from diffae.training.processes import processes
from diffae.training.trainer import require_even_shares, train
from diffae.training.validation import TOO_EARLY, Validation, z_sem_unused

MINIMUM_IMAGES = 10
"""Fewer images than this are refused: one of ten is held out, and nothing can be learnt from the rest."""


CHANGEABLE = ("images", "save_every", "validate_every", "learning_rate", "cooldown", "precision")
"""Settings that may differ when a run is resumed: its length, and what helps where it diverged."""


def held_out(pack: Pack, config: TrainingConfig) -> tuple[Any, Any]:
    """Indices of the training and of the validation images: `val_images`, but at most a tenth."""
    if len(pack) < MINIMUM_IMAGES:
        raise DataError(f"{len(pack)} images are too few to train on: give at least {MINIMUM_IMAGES}")
    rows = pack.split(val_fraction=min(0.1, 2 * config.val_images / len(pack)), max_val=config.val_images)
    return rows if len(rows[1]) > 1 else pack.split(val_fraction=0.999, max_val=2)  # two, to shuffle z_sem among


class AutoencoderTask:
    """What the loop needs to know of training on images (a `diffae.training.trainer.Task`)."""

    def __init__(
        self,
        model: ModelConfig,
        config: TrainingConfig,
        pack: Pack,
        folder: Path,
        data: dict[str, Any],
        console: Console,
        teacher: Teacher | None = None,
    ) -> None:
        self.model, self.config, self.pack, self.teacher = model, config, pack, teacher
        self.folder, self.data, self.console = folder, data, console
        torch.manual_seed(config.seed)  # weights are initialised from PyTorch's global generator
        self.networks: nn.Module = AutoencoderNetworks(model.network)
        self.contrasted = config.contrast > 0 and model.network.has_encoder
        if model.network.has_encoder and (config.contrast or config.orientations or teacher):
            self.networks = GuidedNetworks(self.networks, model.network, config, teacher.size if teacher else 0)
        self.alpha_bar = alpha_bar_of(model.diffusion)
        self.train_rows, val_rows = held_out(pack, config)
        self.validation = Validation(model, pack.fetch(val_rows), config.seed, folder / "samples")

    def batches(self, start: int, rank: int, world_size: int) -> Iterator[Batch]:
        """This process's rows of the batches from step `start` on."""
        config = self.config
        stream = BatchStream(self.pack, self.train_rows, config.batch_size, config.seed, config.flip, rank, world_size)
        return stream.iterate(start)

    def losses(
        self, networks: nn.Module, batch: Batch, step: int, device: torch.device, parts: int
    ) -> Iterator[Tensor]:
        """Eq. 6 on each part of the batch and what else is asked of z_sem, such as a contrast of the part's images.

        Levels, noise and views are drawn for the whole global batch from (seed, step), of which this process takes its
        rows: so the number of processes changes nothing (but with whom an image is contrasted), and a resumed run draws
        what an uninterrupted one does.
        """
        generator = torch.Generator(device).manual_seed(mix(self.config.seed, step))
        x_0 = to_float(batch.images.to(device, non_blocking=True))
        shape = (self.config.batch_size, *x_0.shape[1:])
        rows = torch.from_numpy(batch.rows).to(device, non_blocking=True)
        t = draw_levels(self.config.level_sampling, len(self.alpha_bar) - 1, self.config.batch_size, generator)[rows]
        eps = torch.randn(shape, generator=generator, device=device)[rows]
        views: list[Tensor] | list[None] = [None] * parts
        if self.contrasted:
            numbers = torch.rand((self.config.batch_size, NUMBERS), generator=generator, device=device)[rows]
            views = list(view(x_0, numbers, mirrored=self.config.flip).chunk(parts))
        lessons: list[Tensor] | list[None] = [None] * parts
        if self.teacher:
            lessons = list(self.teacher.lesson(batch.indices).to(device, non_blocking=True).chunk(parts))
        if self.model.network.dropout:
            torch.manual_seed(mix(self.config.seed, step, int(batch.rows[0])))  # dropout takes no generator
        for part in zip(x_0.chunk(parts), t.chunk(parts), eps.chunk(parts), views, lessons, strict=True):
            yield self._loss(networks, *part)

    def _loss(
        self,
        networks: nn.Module,
        x_0: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        eps: Float[Tensor, "b c h w"],
        other_view: Float[Tensor, "b c h w"] | None,
        lesson: Float[Tensor, "b d"] | None,
    ) -> Float[Tensor, ""]:
        prediction = self.model.diffusion.prediction
        scales = Scales.at(self.alpha_bar, t, x_0.dim())
        x_t = scales.add_noise(x_0, eps)
        further = 0.0
        if isinstance(self.networks, GuidedNetworks):
            output, further = networks(x_t, t - 1, x_0, other_view, lesson)
        else:
            output = networks(x_t, t - 1, x_0)
        # Eq. 6: || eps_theta(x_t, t, z_sem) - eps ||^2, or the same of v
        squared = (output.float() - scales.target(prediction, x_0, eps)).square()
        return (scales.loss_weight(prediction, self.config.weighting) * squared).mean() + further

    def validate(self, networks: nn.Module, images: int) -> dict[str, float]:
        """Validation loss with right and shuffled z_sem, reconstruction from z_sem; pictures into samples/."""
        metrics = self.validation.measure(_autoencoder(networks), images)
        if images > TOO_EARLY and z_sem_unused(metrics):
            gap = max(metrics["val_loss_shuffled"] / metrics["val_loss"] - 1, 0)
            text = f"warning: after {images:,} images z_sem is hardly used: another's raises the loss by {gap:.1%} only"
            self.console.print(text, soft_wrap=True)
        return metrics

    def write_config(self) -> None:
        """config.json: the settings, which make the folder a run folder."""
        checkpoint.write_config(self.folder, self.model, training=asdict(self.config), data=self.data)

    def export(self, networks: nn.Module) -> None:
        """model.safetensors, the averaged weights, and config.json, how they came about."""
        self.write_config()
        checkpoint.write_tensors(self.folder / checkpoint.WEIGHTS, _autoencoder(networks).state_dict(), {})


def _autoencoder(networks: nn.Module) -> AutoencoderNetworks:
    """What remains of the trained networks after training."""
    kept = networks.autoencoder if isinstance(networks, GuidedNetworks) else networks
    assert isinstance(kept, AutoencoderNetworks)
    return kept


def mix(*numbers: int) -> int:
    """One seed from several numbers, well mixed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def refuse_differences(folder: Path, model: ModelConfig, config: TrainingConfig) -> None:
    """Raise `CheckpointError` where the run in this folder cannot be resumed with these settings."""
    there = checkpoint.read_config(folder)
    compare_settings(folder, asdict(model), asdict(checkpoint.read_model_config(folder)))
    if "training" not in there:
        what = f"{folder / checkpoint.CONFIG} has no 'training'"
        raise CheckpointError(f"{what}: no run to resume, only a saved model; train in another folder")
    wanted = asdict(config)
    old = asdict(from_dict(TrainingConfig, there["training"]))
    compare_settings(folder, wanted, old | {name: wanted[name] for name in CHANGEABLE})


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Raise `CheckpointError` where a new run must not be put: a file, or a folder that is not empty.

    With `overwrite`, a run folder may be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file: choose another --out, for a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise CheckpointError(f"{folder} exists already: continue it with --resume, or replace it with --overwrite")
    if not (folder / checkpoint.CONFIG).is_file():
        raise CheckpointError(f"{folder} is not a run folder, so --overwrite does not touch it: choose another --out")


def compare_settings(folder: Path, wanted: dict[str, Any], there: dict[str, Any]) -> None:
    """Raise `CheckpointError` at the first setting that differs."""
    for name, value in wanted.items():
        if isinstance(value, dict):
            compare_settings(folder, value, there[name])
        elif value != there[name]:
            raise CheckpointError(f"{folder} was trained with {name} = {there[name]}, not {value}: resume it unchanged")


def train_autoencoder(
    pack: Pack,
    folder: str | Path,
    model: ModelConfig,
    config: TrainingConfig,
    *,
    vectors: str | Path | None = None,
    data: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    console: Console | None = None,
) -> bool:
    """Train on the images of a pack, in a run folder that `DiffusionAutoencoder.from_pretrained` reads.

    Args:
        pack: the images; `val_images` of them, chosen by name, are held out.
        folder: the run folder.
        model: what to train; its size and channels must be the pack's.
        config: how.
        vectors: where `config.teaching` is not 0, a .npy file with a vector (n, d) of each image of the pack, in its
            order, which z_sem is to tell; `diffae.data.feature_vectors.vectors_file` makes one.
        data: what to note of the data in config.json.
        resume: continue from the state last saved; the result is that of an uninterrupted run.
        overwrite: replace a run folder that exists.
        tensorboard: also write TensorBoard events.
        console: where progress goes; by default standard error. Only the first of several processes speaks.
    Returns:
        True at the end; False when interrupted by Ctrl-C, with the state saved.
    Raises:
        ConfigError: vectors without teaching, teaching without vectors, or without an encoder.
        DataError: too few images, or of another size or number of channels; vectors that are not theirs.
        CheckpointError: a folder in use, or nothing there to resume with these settings.
        TrainingError: the loss is not finite, or the disk is full.
    """
    folder, console = Path(folder), console or Console(stderr=True)
    shape = (model.network.image_channels, model.network.image_size)
    if (pack.channels, pack.size) != shape:
        raise DataError(
            f"images are {pack.channels} x {pack.size} pixels: the model is made for {shape[0]} x {shape[1]}"
        )
    rule = "must be above 0 where vectors are given for z_sem to tell, and 0 where none are, or there is no z_sem"
    require((config.teaching > 0) == (vectors is not None), "teaching", config.teaching, rule)
    require(config.teaching == 0 or model.network.has_encoder, "teaching", config.teaching, rule)
    teacher = Teacher(Path(vectors), len(pack)) if vectors is not None else None
    state = processes()
    require_even_shares(config, state.num_processes)  # before the folder is made
    console.quiet = not state.is_main_process
    task = AutoencoderTask(model, config, pack, folder, data or {}, console, teacher)
    if state.is_main_process:
        if resume:
            refuse_differences(folder, model, config)
        else:
            _make_folder(task, overwrite=overwrite)
    state.wait_for_everyone()
    journal = Journal(folder, config.images, console, tensorboard=tensorboard and state.is_main_process)
    return train(task, config, folder, journal, resume=resume)


def _make_folder(task: AutoencoderTask, *, overwrite: bool) -> None:
    refuse_existing(task.folder, overwrite=overwrite)
    if task.folder.exists():
        shutil.rmtree(task.folder)
    task.write_config()
