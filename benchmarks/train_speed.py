"""Training speed: our loop against the plain path, interleaved in one run; prints a table and writes JSON.

    python benchmarks/train_speed.py [--preset small32] [--batch 64] [--steps 12] [--threads 2]

The plain path is what the published code does on a CPU: the same networks in float32, contiguous, eager, an Adam that
is not fused, an EMA updated parameter by parameter. Ours is `diffae.training.loop.Trainer`, data loading included.
Steps of both alternate, so that whatever else the machine does falls on both; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from diffae.config import ModelConfig, TrainingConfig
from diffae.data.pack import Pack
from diffae.diffusion.process import Scales
from diffae.diffusion.schedules import alpha_bar_of
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.presets import presets
from diffae.training.autoencoder import AutoencoderTask
from diffae.training.journal import Journal
from diffae.training.loop import Trainer


def plain_step(model: ModelConfig, batch: int) -> Callable[[], None]:
    """One step of the plain path, as a function."""
    networks = AutoencoderNetworks(model.network).train()
    average = copy.deepcopy(networks)
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-4)
    alpha_bar = alpha_bar_of(model.diffusion)
    shape = (batch, model.network.image_channels, model.network.image_size, model.network.image_size)

    def step() -> None:
        x_0, eps = torch.rand(shape) * 2 - 1, torch.randn(shape)
        t = torch.randint(1, len(alpha_bar), shape[:1])
        scales = Scales.at(alpha_bar, t, 4)
        output = networks(scales.add_noise(x_0, eps), t - 1, x_0)
        loss = (output - scales.target(model.diffusion.prediction, x_0, eps)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), networks.parameters(), strict=True):
                ours.copy_(0.9999 * ours + 0.0001 * theirs)

    return step


def our_step(model: ModelConfig, config: TrainingConfig, folder: Path) -> tuple[Callable[[], None], Trainer]:
    """One step of the training loop, as a function, and the trainer it belongs to."""
    network = model.network
    shape = (512, network.image_size, network.image_size, network.image_channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    quiet = Console(quiet=True)
    task = AutoencoderTask(model, config, Pack.from_arrays([images], folder / "noise.pack"), folder, {}, quiet)
    journal = Journal(folder, config.images, quiet)
    trainer = Trainer(task, config, folder, journal, Accelerator())
    batches = task.batches(0, 0, 1)

    def step() -> None:
        trainer.take_step(next(batches)).tolist()  # the plain path has finished its step when it returns, too

    return step, trainer


def flops_per_image(model: ModelConfig) -> float:
    """Floating-point operations of one training image, forwards and backwards."""
    networks, network = AutoencoderNetworks(model.network), model.network
    x = torch.zeros(1, network.image_channels, network.image_size, network.image_size)
    with FlopCounterMode(display=False) as counter:
        networks(x, torch.zeros(1, dtype=torch.int64), x).sum().backward()
    return float(counter.get_total_flops())


def timed(step: Callable[[], None]) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    """Time both, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, config = presets()[arguments.preset]
    config = dataclasses.replace(config, batch_size=arguments.batch)
    with tempfile.TemporaryDirectory() as folder:
        plain, (ours, trainer) = plain_step(model, arguments.batch), our_step(model, config, Path(folder))
        seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(arguments.steps + 2):
            seconds["plain"].append(timed(plain))
            seconds["ours"].append(timed(ours))
    medians = {name: statistics.median(times[2:]) for name, times in seconds.items()}  # the first two warm up
    results = {
        "preset": arguments.preset,
        "batch": arguments.batch,
        "threads": arguments.threads,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "bfloat16": trainer.bfloat16,
        "images_per_second": {name: arguments.batch / median for name, median in medians.items()},
        "ratio": medians["plain"] / medians["ours"],
        "gflop_per_image": flops_per_image(model) / 1e9,
        "seconds": seconds,
    }
    table = Table("path", "images/s", "GFLOP/s", title=f"training {arguments.preset}, batch {arguments.batch}")
    for name, rate in results["images_per_second"].items():
        table.add_row(name, f"{rate:.1f}", f"{rate * results['gflop_per_image']:.0f}")
    Console().print(table, f"ratio {results['ratio']:.2f}")
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
