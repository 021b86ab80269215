"""A tiny training run for the tests: python training_run.py PACK RUN [kill STEP | resume | dry]."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import torch

from diffae.config import DiffusionConfig, ModelConfig, NetworkConfig, TrainingConfig
from diffae.data.pack import Pack
from diffae.training import trainer as loop
from diffae.training.autoencoder import train_autoencoder

MODEL = ModelConfig(
    NetworkConfig(
        image_size=16,
        model_channels=8,
        channel_mult=(1, 2),
        res_blocks=1,
        attention_resolutions=(8,),
        time_channels=16,
        dropout=0.1,
        z_sem_channels=8,
        encoder_channel_mult=(1, 2),
        encoder_res_blocks=1,
    ),
    DiffusionConfig(prediction="v"),
)
TRAINING = TrainingConfig(
    images=96, batch_size=8, learning_rate=1e-3, precision="float32", val_images=4, validate_every=48, save_every=32
)


def main() -> None:
    """Train; with `kill`, end the process at once in the middle of that step, as `kill -9` does."""
    torch.set_num_threads(1)
    loop.LOG_EVERY = 1
    pack, run, *how = sys.argv[1:]
    if how[:1] == ["kill"]:
        take_step = loop.Trainer.take_step

        def take_step_or_die(self: loop.Trainer, batch: object) -> torch.Tensor:
            if self.step == int(how[1]):
                os.kill(os.getpid(), signal.SIGKILL)
            return take_step(self, batch)

        loop.Trainer.take_step = take_step_or_die
    network = dataclasses.replace(MODEL.network, dropout=0.0) if how == ["dry"] else MODEL.network
    model = dataclasses.replace(MODEL, network=network)
    train_autoencoder(Pack.open(Path(pack)), run, model, TRAINING, resume=how == ["resume"])


if __name__ == "__main__":
    main()
