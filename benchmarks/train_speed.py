"""Training speed: our loop against the plain path, interleaved in one run; prints a table and writes JSON.

    python benchmarks/train_speed.py [--preset small32] [--batch 64] [--steps 12] [--official PATH] [--threads 2]

The plain path is what the published code does on a CPU: the same networks in float32, contiguous, eager, an Adam that
is not fused, an EMA updated parameter by parameter. Ours is `diffae.training.trainer.Trainer`, data loading included.
PATH is a clone of the published repository (github.com/phizaz/diffae): its network, with the same weights under its
own names, then takes the steps of the plain path, too, and all networks are those of the paper's recipe. Steps
alternate, so that whatever else the machine does falls on all; ratios are of medians. The measured peak is of matrix
products of 2048 x 2048 in the same number of threads.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from measuring import conditions, peaks
from rich.console import Console
from rich.table import Table
from sample_speed import published_network
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffae.config import ModelConfig
from diffae.data.pack import Pack
from diffae.model import DiffusionAutoencoder
from diffae.presets import presets
from diffae.training.autoencoder import AutoencoderTask
from diffae.training.auxiliary_losses.distillation import TargetFeatures
from diffae.training.logger import Logger
from diffae.training.settings import TrainingConfig
from diffae.training.trainer import Trainer

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t, time index, x_0) -> the network's output."""


def plain_step(model: ModelConfig, batch: int, networks: nn.Module, forward: Forward) -> Callable[[], None]:
    """One step of the plain path, as a function."""
    networks.train()
    average = copy.deepcopy(networks)
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-4)
    process = model.diffusion.build()
    shape = (batch, *model.image_shape)

    def step() -> None:
        x_0, eps = torch.rand(shape) * 2 - 1, torch.randn(shape)
        t = torch.randint(1, process.levels + 1, shape[:1])
        scales = process.scales(t, 4)
        output = forward(scales.add_noise(x_0, eps), t - 1, x_0)
        loss = (output - scales.target(process.prediction, x_0, eps)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), networks.parameters(), strict=True):
                ours.copy_(0.9999 * ours + 0.0001 * theirs)

    return step


def our_step(model: ModelConfig, config: TrainingConfig, folder: Path) -> tuple[Callable[[], None], Trainer]:
    """One step of the training loop, as a function, and the trainer it belongs to; features to distil are noise."""
    shape = (512, model.image_size, model.image_size, model.image_channels)
    rng = np.random.default_rng(0)
    pack = Pack.from_arrays([rng.integers(0, 256, shape, dtype=np.uint8)], folder / "noise.pack")
    features = None
    if config.distils:
        np.save(folder / "noise.npy", rng.normal(size=(len(pack), 512)).astype(np.float32))
        features = TargetFeatures(folder / "noise.npy", len(pack))
    quiet = Console(quiet=True)
    task = AutoencoderTask(DiffusionAutoencoder(model), config, pack, folder, {}, quiet, features)
    trainer = Trainer(task, config, folder, Logger(folder, config.images, quiet), Accelerator())
    batches = task.batches(0, 0, 1)

    def step() -> None:
        trainer.take_step(next(batches)).tolist()  # the plain path has finished its step when it returns, too

    return step, trainer


def paths(
    model: ModelConfig, config: TrainingConfig, folder: Path, official: Path | None
) -> tuple[dict[str, Callable[[], None]], Trainer]:
    """One step of each path, as functions, and our trainer."""
    networks, batch = DiffusionAutoencoder(model), config.batch_size
    ours, trainer = our_step(model, config, folder)
    steps = {"plain": plain_step(model, batch, networks, networks), "ours": ours}
    if official:
        theirs = published_network(official, model, networks)

        def forward(x_t: Tensor, time_index: Tensor, x_0: Tensor) -> Tensor:
            return theirs(x_t, time_index, x_start=x_0).pred

        steps["published code"] = plain_step(model, batch, theirs, forward)
    return steps, trainer


def flops_per_image(model: ModelConfig) -> float:
    """Floating-point operations of one training image, forwards and backwards."""
    networks = DiffusionAutoencoder(model).to("cpu")
    x = torch.zeros(1, *model.image_shape)
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
    parser.add_argument("--official", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, config = presets("paper" if arguments.official else "default")[arguments.preset]
    config = dataclasses.replace(config, batch_size=arguments.batch)
    highest = peaks()
    with tempfile.TemporaryDirectory() as folder:
        steps, trainer = paths(model, config, Path(folder), arguments.official)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(arguments.steps + 2):
            for name, step in steps.items():
                seconds[name].append(timed(step))
    medians = {name: statistics.median(times[2:]) for name, times in seconds.items()}  # the first two warm up
    results = {
        "preset": arguments.preset,
        "batch": arguments.batch,
        "conditions": conditions(arguments.threads),
        "bfloat16": trainer.bfloat16,
        "peak_gflop_per_second": highest,
        "images_per_second": {name: arguments.batch / median for name, median in medians.items()},
        "ratio": {name: medians["plain"] / median for name, median in medians.items()},
        "gflop_per_image": flops_per_image(model) / 1e9,
        "seconds": seconds,
    }
    title = f"training {arguments.preset}, batch {arguments.batch}"
    table = Table("path", "images/s", "ratio", "GFLOP/s", "share of peak", title=title)
    for name, rate in results["images_per_second"].items():
        reached = rate * results["gflop_per_image"]
        top = highest.get("bfloat16" if name == "ours" and trainer.bfloat16 else "float32")
        share = "not measured" if top is None else f"{reached / top:.0%}"
        table.add_row(name, f"{rate:.1f}", f"{results['ratio'][name]:.2f}", f"{reached:.0f}", share)
    Console().print(table)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
