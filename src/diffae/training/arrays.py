"""Training small networks on tensors in memory, by the same loop: baselines and detectors of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from diffae import checkpoint
from diffae.config import TrainingConfig
from diffae.errors import CheckpointError, DataError
from diffae.training.autoencoder import mix
from diffae.training.logger import Journal
from diffae.training.trainer import train

_KEY = "key"

Loss = Callable[[nn.Module, Sequence[Tensor]], Tensor]
"""The mean loss of networks on a batch: the rows of each tensor."""


class ArrayTask:
    """What the loop needs to know of training on tensors (a `diffae.training.trainer.Task`).

    Args:
        networks: what is trained.
        tensors: rows that belong together, for instance images and their classes.
        loss: of a batch of them.
        config: length, batch, learning rate and seed.
        path: file for the averaged weights.
        key: noted in it, to know it again.
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
        """The loss of each part of the batch; noise inside the networks is drawn from the seed and the step."""
        torch.manual_seed(mix(self.config.seed, step, int(batch[0])))
        for rows in batch.chunk(parts):
            yield self.loss(networks, [tensor[rows].to(device) for tensor in self.tensors])

    def validate(self, networks: nn.Module, images: int) -> dict[str, float]:
        """Nothing: these networks are measured where they are used."""
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
    """Networks trained on tensors in memory, or read from the folder where they were trained before.

    Args:
        networks: makes them, with new weights.
        tensors, loss, config: see `ArrayTask`.
        folder: for the weights and metrics.jsonl.
        key: changes with whatever the weights depend on.
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
    journal = Journal(folder, config.images, console or Console(stderr=True))
    if not train(task, config, folder, journal, resume=False):
        raise KeyboardInterrupt
    weights, _ = checkpoint.read_tensors(unfinished)
    module.cpu()
    checkpoint.load_weights(module, weights, unfinished)
    unfinished.replace(path)
    return module.eval()
