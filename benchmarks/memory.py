"""Memory of training from a pack of 1,000,000 images: resident memory over the model's own needs, step by step.

    python benchmarks/memory.py [--images 1000000] [--steps 60]

The pack is synthetic (zeros, a sparse file of 3 GB). The model's own needs are what the same run takes with a pack of
1,000 images; batches are drawn over the whole pack, and 2,000 more batches are read without training on them, so that
more than a tenth of the file is touched.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import tempfile
from pathlib import Path

import numpy as np
import psutil
from accelerate import Accelerator
from measuring import conditions
from rich.console import Console

from diffae.data.pack import Pack
from diffae.model import DiffusionAutoencoder
from diffae.presets import presets
from diffae.training.autoencoder import AutoencoderTask
from diffae.training.logger import Logger
from diffae.training.trainer import Trainer

MIB = 2**20


def resident() -> float:
    """Resident memory of this process in MiB."""
    return psutil.Process().memory_info().rss / MIB


def make_pack(count: int, path: Path) -> Pack:
    """Zeros, written in chunks."""
    chunk = np.zeros((min(count, 10_000), 32, 32, 3), np.uint8)
    return Pack.from_arrays((chunk for _ in range(count // len(chunk))), path)


def peak(count: int, steps: int, folder: Path) -> float:
    """Highest resident memory while training on `count` images."""
    model, config = presets()["small32"]
    config = dataclasses.replace(config, batch_size=64)
    quiet = Console(quiet=True)
    task = AutoencoderTask(
        DiffusionAutoencoder(model), config, make_pack(count, folder / f"{count}.pack"), folder, {}, quiet
    )
    trainer = Trainer(task, config, folder, Logger(folder, config.images, quiet), Accelerator())
    highest, batches = 0.0, task.batches(0, 0, 1)
    for _ in range(steps):
        trainer.take_step(next(batches))
        highest = max(highest, resident())
    for _ in range(2000):
        next(batches)
        highest = max(highest, resident())
    del trainer, task, batches
    gc.collect()
    return highest


def main() -> None:
    """Train on few and on many images, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few = peak(1000, arguments.steps, Path(folder))
        many = peak(arguments.images, arguments.steps, Path(folder))
    results = conditions(0) | {"images": arguments.images, "few_mib": few, "many_mib": many, "over_mib": many - few}
    Console().print(
        f"{many:.0f} MiB with {arguments.images:,} images, {few:.0f} MiB with 1,000: {many - few:.0f} MiB more"
    )
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
