"""Training of small networks on tensors in memory, for the baselines and detectors of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from diffae import checkpoint
from diffae.console import Update
from diffae.console import console as terminal
from diffae.errors import CheckpointError, DataError
from diffae.training.autoencoder import mix
from diffae.training.logger import Logger
from diffae.training.settings import TrainingConfig
from diffae.training.trainer import train

_KEY = "key"

Loss = Callable[[nn.Module, Sequence[Tensor]], Tensor]
"""The mean loss of networks on a batch, given as the rows of each tensor."""


class ArrayTask:
    """Training on tensors in memory (a `diffae.training.trainer.Task`).

    Args:
        networks: what is trained.
        tensors: with corresponding rows, for instance images and their classes.
        loss: of a batch.
        config: length, batch size, learning rate and seed.
        path: file for the averaged weights.
        key: stored in the file, to identify it.
    """

    def __init__(
        self, networks: nn.Module, tensors: Sequence[Tensor], loss: Loss, config: TrainingConfig, path: Path, key: str
    ) -> None:
        self.networks, self.tensors, self.loss, self.config = networks, tensors, loss, config
        self.path, self.key = path, key

    def batches(self, start: int, rank: int, world_size: int) -> Iterator[Tensor]:
        """This process's rows of each step, drawn from the seed and the step."""
        share = self.config.batch_size // world_size
        step = start
        while True:
            rows = np.random.default_rng((self.config.seed, step)).integers(
                0, len(self.tensors[0]), self.config.batch_size
            )
            yield torch.from_numpy(rows[rank * share : (rank + 1) * share])
            step += 1

    def losses(
        self, networks: nn.Module, batch: Tensor, step: int, device: torch.device, parts: int
    ) -> Iterator[Tensor]:
        """The loss of each part of the batch; random numbers inside the networks depend on the seed and the step."""
        torch.manual_seed(mix(self.config.seed, step, int(batch[0])))
        for rows in batch.chunk(parts):
            yield self.loss(networks, [tensor[rows].to(device) for tensor in self.tensors])

    def validated(self) -> None:
        """See Task."""

    def validate(self, networks: nn.Module, images: int, update: Update) -> dict[str, float]:
        """No metrics: these networks are measured where they are used."""
        return {}

    def export(self, networks: nn.Module) -> None:
        """The averaged weights."""
        checkpoint.write_tensors(self.path, networks.state_dict(), {_KEY: self.key})


def train_on_arrays(
    networks: Callable[[], nn.Module],
    tensors: Sequence[Tensor],
    loss: Loss,
    config: TrainingConfig,
    folder: Path,
    key: str,
    console: Console | None = None,
) -> nn.Module:
    """Networks trained on tensors in memory, or loaded from the folder if they were trained before.

    Args:
        networks: returns them, with new weights.
        tensors, loss, config: see `ArrayTask`.
        folder: for the weights and metrics.jsonl.
        key: must change with everything the weights depend on.
        console: where progress goes; by default standard error.
    Raises:
        DataError: no rows.
        TrainingError: the loss is not finite, or the disk is full.
        KeyboardInterrupt: training was interrupted.
    """
    if not len(tensors[0]):
        raise DataError("no images to train on: at least one is needed")
    torch.manual_seed(config.seed)  # weights are initialised from PyTorch's global generator
    module, path = networks(), folder / checkpoint.WEIGHTS
    if path.is_file():
        weights, metadata = checkpoint.read_tensors(path)
        if metadata.get(_KEY) == key:
            try:
                checkpoint.load_weights(module, weights, path)
                return module.eval()
            except CheckpointError:  # of another size: train again
                pass
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "unfinished.safetensors"
    task = ArrayTask(module, tensors, loss, config, unfinished, key)
    logger = Logger(folder, config.images, console or terminal())
    if not train(task, config, folder, logger, resume=False):
        raise KeyboardInterrupt
    weights, _ = checkpoint.read_tensors(unfinished)
    module.cpu()
    checkpoint.load_weights(module, weights, unfinished)
    unfinished.replace(path)
    return module.eval()
