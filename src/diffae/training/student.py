"""Distillation of the decoder: its student learns the decoder's own trajectories by regression.

Every image of a batch takes one step of a path of 1, 2 or 4 steps, from a state of the teacher's trajectory; the loss
is the squared error of x0_hat, as it must be for the step to end in the teacher's state.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from diffae import checkpoint
from diffae.checkpoint import Fingerprint
from diffae.config import Sampling, from_dict, to_dict
from diffae.console import Update
from diffae.console import console as terminal
from diffae.data.images import to_unit
from diffae.diffusion.process import Scales
from diffae.errors import CheckpointError
from diffae.model import DiffusionAutoencoder
from diffae.model.student import STEPS, STUDENT, Student, milestones, path
from diffae.training.autoencoder import CHANGEABLE, compare_settings, mix
from diffae.training.logger import Logger
from diffae.training.settings import TrainingConfig
from diffae.training.trainer import train
from diffae.training.trajectories import Trajectories

LOG_FOLDER = "student"
"""Folder in the run for the student's metrics.jsonl and its state for resuming."""


class Lessons:
    """The steps to learn, of all paths: where each begins and ends on the trajectory, and how it is scaled.

    Args:
        levels: the milestones.
        alpha_bar: of the process.
    """

    def __init__(self, levels: list[int], alpha_bar: np.ndarray) -> None:
        most, rows = STEPS[-1], []
        for steps in STEPS:
            places = range(0, most + 1, most // steps)
            for (s, t), (below, above) in zip(pairwise(path(levels, steps)), pairwise(places), strict=True):
                share = 1 / (len(STEPS) * steps)  # paths are drawn alike, then one of their steps
                rows.append((above, below, t, alpha_bar[t], alpha_bar[s], share))
        above, below, t, alpha_t, alpha_s, share = (torch.tensor(column) for column in zip(*rows, strict=True))
        self.above, self.below, self.t, self.share = above, below, t, share.float()
        self.signal_t, self.noise_t = alpha_t.sqrt().float(), (1 - alpha_t).sqrt().float()
        self.signal_s, self.noise_s = alpha_s.sqrt().float(), (1 - alpha_s).sqrt().float()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Numbers of `count` steps."""
        return torch.multinomial(self.share, count, replacement=True, generator=generator)

    def target(self, which: Tensor, x_t: Tensor, x_s: Tensor) -> Float[Tensor, "b c h w"]:
        """x0_hat whose DDIM step leads from x_t to x_s.

        Solves x_s = signal_s x0_hat + noise_s (x_t - signal_t x0_hat) / noise_t.
        """
        ratio = self.noise_s[which] / self.noise_t[which]
        scale = self.signal_s[which] - self.signal_t[which] * ratio
        return (x_s - _wide(ratio) * x_t) / _wide(scale)


def _wide(x: Tensor) -> Tensor:
    return x[:, None, None, None]


class StudentTask:
    """Training of a student (a `diffae.training.trainer.Task`).

    Args:
        model: whose decoder is the teacher; its weights are not changed.
        config: how.
        lessons: trajectories of training images, by `teacher`.
        held_out: images in [-1, 1] to validate on.
        teacher: how the decoder decodes.
        folder: the autoencoder's run folder, where student.safetensors goes.
    """

    def __init__(
        self,
        model: DiffusionAutoencoder,
        config: TrainingConfig,
        lessons: Trajectories,
        held_out: Tensor,
        teacher: Sampling,
        folder: Path,
    ) -> None:
        self.model, self.config, self.lessons, self.teacher, self.folder = model, config, lessons, teacher, folder
        self.steps = Lessons(milestones(teacher, model.process.levels), model.alpha_bar)
        self.networks: nn.Module = copy.deepcopy(model.decoder).requires_grad_(True)
        self.mark = model.fingerprint()
        self.held_out = held_out
        self.code = model.encode(held_out, teacher)

    def batches(self, start: int, rank: int, world_size: int) -> Iterator[slice]:
        """This process's rows of the global batch, the same at every step: trajectories are drawn in `losses`."""
        yield from itertools.repeat(slice(rank, None, world_size))

    def losses(
        self, networks: nn.Module, batch: slice, step: int, device: torch.device, parts: int
    ) -> Iterator[Tensor]:
        """The loss on each part of the batch; trajectories and steps are functions of (seed, step)."""
        generator = torch.Generator().manual_seed(mix(self.config.seed, step))
        size = self.config.batch_size
        rows = torch.randint(len(self.lessons.states), (size,), generator=generator)[batch]
        which = self.steps.draw(size, generator)[batch]
        torch.manual_seed(mix(self.config.seed, step))  # dropout takes no generator
        for some, steps in zip(rows.chunk(parts), which.chunk(parts), strict=True):
            yield self._loss(networks, some, steps, device)

    def _loss(self, networks: nn.Module, rows: Tensor, which: Tensor, device: torch.device) -> Float[Tensor, ""]:
        states, z_sem = self.lessons.states, self.lessons.z_sem
        x_t, x_s = (states[rows, places[which]] for places in (self.steps.above, self.steps.below))
        wanted = self.steps.target(which, x_t, x_s).to(device, non_blocking=True)
        scales = Scales(*(_wide(scale[which]).to(device) for scale in (self.steps.signal_t, self.steps.noise_t)))
        x_t, given = x_t.to(device), None if z_sem is None else z_sem[rows].to(device)
        v = networks(x_t, (self.steps.t[which] - 1).to(device), given).float()
        return (scales.signal * x_t - scales.noise * v - wanted).square().mean()

    def validated(self) -> None:
        """See Task; a student has no page."""

    def validate(self, networks: nn.Module, images: int, update: Update) -> dict[str, float]:
        """PSNR of held-out images decoded from their exact x_T, for each number of steps."""
        student = Student.of(self.model, networks, self.teacher)
        found: dict[str, float] = {}
        for done, steps in enumerate(STEPS):
            update(100 * done // len(STEPS))
            back = student.model.decode(self.code, sampling=student.sampling(Sampling.student(steps))).cpu()
            mse = (to_unit(back) - to_unit(self.held_out)).square().mean(dim=(1, 2, 3))
            found[f"psnr_{steps}"] = -10 * mse.log10().mean().item()
        return found

    def export(self, networks: nn.Module) -> None:
        """student.safetensors: the averaged weights and the settings."""
        student = Student.of(self.model, networks, self.teacher)
        student.save(self.folder, self.model, training=to_dict(self.config), trajectories=len(self.lessons.states))


def student_training(decoder: TrainingConfig, images: int | None = None) -> TrainingConfig:
    """How a student is trained: as its decoder was, on a tenth of the images, half of them at a falling rate.

    Args:
        decoder: how the decoder was trained.
        images: another length.
    """
    images = max(decoder.images // 10, decoder.batch_size) if images is None else images
    return dataclasses.replace(
        decoder,
        images=images,
        warmup_images=images // 20,
        cooldown=0.5,
        ema_decay=min(decoder.ema_decay, 0.999),
        auxiliary_losses=(),
        validate_every=math.ceil(images / 4),
        save_every=math.ceil(images / 8),
    )


def train_student(
    folder: str | Path,
    model: DiffusionAutoencoder,
    lessons: Trajectories,
    held_out: Float[Tensor, "m k H W"],
    config: TrainingConfig,
    *,
    teacher: Sampling | None = None,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> bool:
    """Distil the decoder of a run; the result is RUN/student.safetensors.

    Args:
        folder: the autoencoder's run folder.
        model: the autoencoder.
        lessons: trajectories of its decoder by `teacher` (see `training.trajectories`).
        held_out: images in [-1, 1] to validate on.
        config: how; `images` is the number of steps of trajectories seen.
        teacher: how the decoder decodes; `Sampling()` by default.
        resume: continue from the state last saved; the result is that of an uninterrupted training.
        overwrite: replace a student that exists.
        console: where progress goes; by default standard error.
    Returns:
        True at the end; False when interrupted by Ctrl-C or SIGTERM, with the state saved.
    Raises:
        CheckpointError: a student that exists, or nothing there to resume with these settings.
        TrainingError: the loss is not finite, or the disk is full.
    """
    folder, console = Path(folder), console or terminal()
    task = StudentTask(model, config, lessons, held_out, teacher or Sampling(), folder)
    if resume:
        _refuse_differences(folder, task.mark, config)
    else:
        refuse_student(folder, overwrite=overwrite)
        shutil.rmtree(folder / LOG_FOLDER, ignore_errors=True)
    (folder / LOG_FOLDER).mkdir(exist_ok=True)
    logger = Logger(folder / LOG_FOLDER, config.images, console)
    return train(task, config, folder / LOG_FOLDER, logger, resume=resume)


def refuse_student(folder: Path, *, overwrite: bool) -> None:
    """Raise `CheckpointError` where a run has a student already that is not to be replaced."""
    if (folder / STUDENT).exists() and not overwrite:
        raise CheckpointError(f"{folder} has a student already: continue with --resume, or replace it by --overwrite")


def student_settings(folder: Path, model: Fingerprint) -> tuple[TrainingConfig, int]:
    """How the student in a run folder was trained, and on how many trajectories.

    Raises:
        CheckpointError: there is none, it is another model's, or it was not trained here.
    """
    _, texts = checkpoint.read_tensors(folder / STUDENT)
    if not model.matches(texts.get("model")):
        raise CheckpointError(f"{folder / STUDENT} is another decoder's: start again with --overwrite")
    try:
        return from_dict(TrainingConfig, json.loads(texts["training"])), int(texts["trajectories"])
    except (KeyError, ValueError, TypeError) as error:
        what = f"{folder / STUDENT} does not say how it was trained"
        raise CheckpointError(f"{what}: start again with --overwrite") from error


def _refuse_differences(folder: Path, model: Fingerprint, config: TrainingConfig) -> None:
    trained, _ = student_settings(folder, model)
    wanted = to_dict(config)
    compare_settings(folder / STUDENT, wanted, to_dict(trained) | {name: wanted[name] for name in CHANGEABLE})
