"""What the tests of several processes let each of them do (see `jobs.run_job`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fingerprints import mark
from torch.nn.parallel import DistributedDataParallel
from training_run import DRY, TRAINING

from diffae import distributed
from diffae.config import PriorConfig
from diffae.data.pack import Pack
from diffae.errors import DataError
from diffae.training import prior, trainer, validation
from diffae.training.autoencoder import train_autoencoder
from diffae.training.auxiliary_losses.contrastive import ContrastiveLoss
from diffae.training.settings import ContrastiveConfig, TrainingConfig


def divide(count: int) -> dict[str, Any]:
    """Parts shared on the first process and on all, and an error of one part."""

    def fails(part: int) -> int:
        if part == 1:
            raise DataError("part 1 cannot be done")
        return part

    first = list(distributed.divided(range(count), lambda part: (part, distributed.rank())))
    every = list(distributed.divided(range(count), lambda part: part * part, everywhere=True))
    try:
        list(distributed.divided(range(count), fails))
        error = ""
    except DataError as raised:
        error = str(raised)
    given = distributed.broadcast(distributed.rank() + 7)
    with distributed.alone():
        by_itself = distributed.world_size(), list(distributed.divided(range(2), lambda part: part))
        alone = distributed.processes().num_processes
    return {
        "first": first, "every": every, "error": error, "given": given, "alone": (*by_itself, alone),
        "after": (distributed.world_size(), distributed.processes().num_processes),
    }  # fmt: skip


def take_turns(log: Path, folders: list[Path]) -> bool:
    """Make something once in the folder of each process; returns whether this process made it."""
    made = folders[distributed.rank()] / "made"
    with distributed.in_turns():
        makes = not made.exists()
        if makes:
            made.write_text("x")
        with log.open("a") as file:
            file.write(f"{distributed.rank()}\n")
    return makes


def contrast(loss: ContrastiveLoss, z_sem: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Loss and gradients of the projection, averaged as in training, of images (b) and their views (b)."""
    distributed.processes()
    mine = slice(distributed.rank(), None, distributed.world_size())
    own = torch.cat([half[mine] for half in torch.from_numpy(z_sem).chunk(2)])
    shared = DistributedDataParallel(loss)
    value = shared(own, None)
    value.backward()
    return value.item(), [parameter.grad.numpy() for parameter in loss.parameters() if parameter.grad is not None]


def train(pack: Path, run: Path) -> bool:
    """A tiny training with a gathered contrastive loss, whose validation is in parts."""
    training = dataclasses.replace(TRAINING, images=48, auxiliary_losses=(ContrastiveConfig(1.0),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "LOG_EVERY", 1)
        patch.setattr(validation, "SHARE", 3)
        return train_autoencoder(Pack.open(pack), run, DRY, training)


def train_prior(folder: Path, codes: np.ndarray) -> bool:
    """A tiny training of a prior, whose validation is in parts."""
    training = TrainingConfig(256, 32, precision="float32", validate_every=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "LOG_EVERY", 1)
        patch.setattr(prior, "_PART", 500)
        return prior.train_prior(folder, mark("0"), codes, codes[:9], PriorConfig(3, 32), training)
