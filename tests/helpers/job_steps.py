"""What the tests of several processes let each of them do (see `jobs.run_job`)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fingerprints import mark
from torch.nn.parallel import DistributedDataParallel
from training_run import DRY, TRAINING

from diffae import distributed, workers
from diffae.cli import main
from diffae.config import PriorConfig
from diffae.data.pack import Pack
from diffae.errors import DataError
from diffae.evaluation import features
from diffae.model import autoencoder
from diffae.training import muon, prior, trainer, validation
from diffae.training.arrays import train_on_arrays
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


def _process() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


class Adder:
    """Does parts in any process."""

    def add(self, part: torch.Tensor) -> tuple[int, float, int]:
        """This process, the sum of a part, and the number of values in its memory."""
        return _process(), part.sum().item(), part.untyped_storage().nbytes() // 4

    def refuse(self, part: str, process: int) -> str:
        """The part; raises an error in one process."""
        if _process() == process:
            raise DataError(f"{part} is refused")
        return part


def lead(count: int) -> dict[str, Any] | None:
    """Parts that the processes add up, the errors of each, and how many processes there seem to be."""
    shared, own = Adder(), Adder()
    parts = torch.arange(2.0 * count).view(count, 2)

    def work() -> dict[str, Any]:
        errors = []
        for process in range(workers.team_size()):
            try:
                list(workers.each(shared, "refuse", "ab", process))
            except DataError as error:
                errors.append(str(error))
        return {
            "parts": list(workers.each(shared, "add", parts)),
            "own": list(workers.each(own, "add", parts)),
            "errors": errors,
            "processes": (distributed.world_size(), workers.team_size()),
        }

    found = workers.lead(work, shared)
    assert workers.team_size() == 1
    return found and {**found, "after": distributed.world_size()}


def lead_into_failure() -> str | None:
    """The error of a first process that fails."""

    def work() -> None:
        raise DataError("the images are gone")

    try:
        return workers.lead(work, Adder())
    except DataError as error:
        return str(error)


def lead_training(folder: Path) -> list[float] | None:
    """What a small network learns from batches that processes could not share."""
    x = torch.arange(6.0).view(6, 1)
    config = TrainingConfig(images=9, batch_size=3, learning_rate=0.1, precision="float32")

    def loss(network: torch.nn.Module, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        return (network(batch[0]) - 2 * batch[0]).square().mean()

    def work() -> list[float]:
        network = train_on_arrays(partial(torch.nn.Linear, 1, 1), [x], loss, config, folder, "key")
        return [parameter.item() for parameter in network.parameters()]

    return workers.lead(work)


def commands(folder: Path, *lines: list[str]) -> tuple[list[int], int]:
    """Run command lines, with batches of 2; returns their exit codes and how many batches this process decoded."""
    decoded = 0
    decode = autoencoder.DiffusionAutoencoder._decode_part

    def counting(*args: Any) -> torch.Tensor:
        nonlocal decoded
        decoded += 1
        return decode(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(autoencoder, "BATCH", 2)
        patch.setattr(features, "BATCH", 2)
        patch.setattr(autoencoder.DiffusionAutoencoder, "_decode_part", counting)
        return [main(line) for line in lines], decoded


def contrast(loss: ContrastiveLoss, z_sem: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Loss and gradients of the projection, averaged as in training, of images (b) and their views (b)."""
    distributed.processes()
    mine = slice(distributed.rank(), None, distributed.world_size())
    own = torch.cat([half[mine] for half in torch.from_numpy(z_sem).chunk(2)])
    shared = DistributedDataParallel(loss)
    value = shared(own, None)
    value.backward()
    return value.item(), [parameter.grad.numpy() for parameter in loss.parameters() if parameter.grad is not None]


def orthogonalise(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """The steps of matrices that the processes divide."""
    distributed.processes()
    return [step.numpy() for step in muon.orthogonalised_by_all([torch.from_numpy(matrix) for matrix in matrices])]


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
