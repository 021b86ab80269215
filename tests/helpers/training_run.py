"""A tiny training run in a process of its own: python training_run.py PACK RUN [HOW]...

HOW is any of: resume, restart (resume if something is saved), dry (no dropout), pause=S (seconds before each step),
log=N (steps between log lines), kill=take_step:N, kill=validate:N, kill=export:N (SIGKILL when that method of `Trainer`
or of the task is called at step N), int=N, term=N (that signal at step N).
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffae.config import DiffusionConfig, ModelConfig, UNetConfig, UNetEncoderConfig
from diffae.data.pack import Pack
from diffae.training import trainer
from diffae.training.autoencoder import AutoencoderTask, train_autoencoder
from diffae.training.settings import TrainingConfig
from diffae.training.state import STATE

_SHARED: dict[str, Any] = {"model_channels": 8, "channel_mult": (1, 2), "res_blocks": 1, "attention_resolutions": (8,)}

MODEL = ModelConfig(
    image_size=16,
    decoder=UNetConfig(time_channels=16, dropout=0.1, **_SHARED),
    encoder=UNetEncoderConfig(z_sem_channels=8, **_SHARED),
    diffusion=DiffusionConfig(prediction="v"),
)
DRY = dataclasses.replace(MODEL, decoder=UNetConfig(time_channels=16, dropout=0.0, **_SHARED))
"""Without dropout, whose random numbers depend on how a batch is split."""
BASELINE = dataclasses.replace(MODEL, encoder=None)
TRAINING = TrainingConfig(
    images=96, batch_size=8, learning_rate=1e-3, precision="float32", val_images=4, validate_every=48, save_every=32
)


def noise_pack(path: Path, count: int = 40) -> Pack:
    """Images of noise, 16x16 pixels."""
    return Pack.from_arrays([np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)], path)


def _signal_in(cls: type, method: str, step: int, number: int) -> None:
    """Send this process a signal when a method of the trainer or of the task is called at that step."""
    original = getattr(cls, method)

    def wrapped(self: Any, *args: Any) -> Any:
        at = self.step if isinstance(self, trainer.Trainer) else current[0].step
        if at == step:
            os.kill(os.getpid(), number)
        return original(self, *args)

    current: list[trainer.Trainer] = []
    run = trainer.Trainer.run

    def remember(self: trainer.Trainer) -> bool:
        current.append(self)
        return run(self)

    trainer.Trainer.run = remember
    setattr(cls, method, wrapped)


def _pause(seconds: float) -> None:
    take_step = trainer.Trainer.take_step

    def slowly(self: trainer.Trainer, batch: Any) -> torch.Tensor:
        time.sleep(seconds)
        return take_step(self, batch)

    trainer.Trainer.take_step = slowly


def main(arguments: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Train as the arguments say, with some environment variables; exits with 1 if training was interrupted."""
    os.environ.update(environment or {})
    torch.set_num_threads(1)
    trainer.LOG_EVERY = 1
    pack, run, *how = arguments
    for word in how:
        name, _, value = word.partition("=")
        if name == "log":
            trainer.LOG_EVERY = int(value)
        elif name == "kill":
            method, _, step = value.partition(":")
            cls = trainer.Trainer if method == "take_step" else AutoencoderTask
            _signal_in(cls, method, int(step), signal.SIGKILL)
        elif name in ("int", "term"):
            _signal_in(trainer.Trainer, "take_step", int(value), getattr(signal, f"SIG{name.upper()}"))
        elif name == "pause":
            _pause(float(value))
    model = DRY if "dry" in how else MODEL
    resume = "resume" in how or ("restart" in how and (Path(run) / STATE).is_file())
    finished = train_autoencoder(Pack.open(Path(pack)), run, model, TRAINING, resume=resume, overwrite="restart" in how)
    sys.exit(0 if finished else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
