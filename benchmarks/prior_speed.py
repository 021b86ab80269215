"""Speed of training the latent prior: codes per second of every loop; prints a table for each prior and writes JSON.

    python benchmarks/prior_speed.py RUN IMAGES [--clock cpu]

RUN is a run folder, IMAGES the pack it was trained on. The training loop stands against the same network and optimiser
in a plain loop (float32, as the published code trains its prior) that draws each batch through a data loader: of z_sem
that are kept in memory, without and with processes of the loader (the published code has four); and of images that are
encoded as they come. Steps alternate; the ratios are of medians. What the matrix products take of a step bounds what
any loop with the same arithmetic could gain.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from measuring import conditions
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diffae import checkpoint
from diffae.config import PriorConfig, from_dict
from diffae.data.feature_cache import encode_pack
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.diffusion.process import Scales
from diffae.diffusion.schedules import alpha_bar_of
from diffae.model import DiffusionAutoencoder
from diffae.networks.mlp import SkipMLP
from diffae.presets import prior_presets
from diffae.training.held_out import held_out
from diffae.training.logger import Logger
from diffae.training.prior import PriorTask
from diffae.training.settings import TrainingConfig
from diffae.training.trainer import Trainer

PRESETS = ("small32", "ffhq128")
WORKERS = 4  # of the published code's data loader


class _Images(Dataset):
    """Images of a pack one by one, in [-1, 1]."""

    def __init__(self, pack: Pack, rows: np.ndarray) -> None:
        self.pack, self.rows = pack, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return to_tensor(self.pack.fetch(self.rows[index : index + 1]))[0]


def endless(data: Dataset, batch: int, workers: int = 0) -> Iterator[Any]:
    """Shuffled batches of a data loader, epoch after epoch."""
    loader = DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def plain_step(config: PriorConfig, training: TrainingConfig, task: PriorTask, draw: Callable[[], Tensor]):
    """One step of the plain loop, as a function; `draw` returns the next batch of normalised z_sem."""
    network = SkipMLP(task.z_norm.shape[1], config.hidden_channels, config.layers).train()
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    alpha_bar = alpha_bar_of(config.diffusion)

    def step() -> None:
        z = draw()
        t, eps = torch.randint(1, len(alpha_bar), (len(z),)), torch.randn_like(z)
        output = network(Scales.at(alpha_bar, t, 2).add_noise(z, eps), t - 1)
        loss = (output - eps).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
        optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), network.parameters(), strict=True):
                ours.copy_(0.9999 * ours + 0.0001 * theirs)

    return step


def steps_of(
    preset: str, model: DiffusionAutoencoder, pack: Pack, rows: np.ndarray, codes: np.ndarray, folder: Path
) -> tuple[int, dict[str, Callable[[], object]]]:
    """The batch size, and a step of every loop, as functions; the first is ours."""
    config, training = prior_presets()[preset]
    task = PriorTask(config, training, codes, codes[:256], folder, model.fingerprint())
    encoded = endless(_Images(pack, rows), training.batch_size)

    def encode() -> Tensor:
        return (model.encode_semantic(next(encoded)) - task.mean) / task.std

    quiet = Console(quiet=True)
    trainer = Trainer(task, training, folder, Logger(folder, training.images, quiet), Accelerator(cpu=True))
    batches = task.batches(0, 0, 1)
    loops: dict[str, Callable[[], object]] = {"this loop": lambda: trainer.take_step(next(batches)).tolist()}
    for what, workers in (("a data loader", 0), (f"a data loader of {WORKERS} processes", WORKERS)):
        loaded = endless(TensorDataset(task.z_norm), training.batch_size, workers)
        loops[f"z_sem through {what}"] = plain_step(config, training, task, lambda loaded=loaded: next(loaded)[0])
    loops["images through a data loader, encoded"] = plain_step(config, training, task, encode)
    return training.batch_size, loops


def seconds_of_products(step: Callable[[], object], steps: int = 5) -> float:
    """Seconds of a step that are matrix products: the quickest of each kind and shape (others may use the machine)."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        for _ in range(steps):
            step()
    found = defaultdict(list)
    for event in profile.events() or ():
        if event.name in ("aten::mm", "aten::addmm"):
            found[event.name, str(event.input_shapes)].append(event.self_cpu_time_total)
    return sum(min(times) * len(times) for times in found.values()) / steps * 1e-6


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Codes per second of every loop, for a small and a paper's prior."""
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    pack = Pack.open(arguments.images)
    training = from_dict(TrainingConfig, checkpoint.read_config(arguments.run)["training"])
    rows, _ = held_out(pack, training)
    codes = encode_pack(model, pack, rows, arguments.run / "cache")
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    results = {}
    for preset in arguments.presets:
        with tempfile.TemporaryDirectory() as folder:
            batch, loops = steps_of(preset, model, pack, rows, codes, Path(folder))
            seconds: dict[str, list[float]] = {name: [] for name in loops}
            for _ in range(arguments.steps + 2):
                for name, step in loops.items():
                    start = clock()
                    step()
                    seconds[name].append(clock() - start)
            products = {name: seconds_of_products(step) for name, step in itertools.islice(loops.items(), 2)}
        medians = {name: statistics.median(times[2:]) for name, times in seconds.items()}  # the first two warm up
        show_speed(preset, batch, medians, products)
        results[preset] = {
            "batch": batch,
            "seconds": medians,
            "of them matrix products": products,
            "codes_per_second": {n: batch / s for n, s in medians.items()},
        }
    return {"clock": arguments.clock, "steps": arguments.steps, "loops": results}


def show_speed(preset: str, batch: int, medians: dict[str, float], products: dict[str, float]) -> None:
    """The loops of one preset as a table."""
    ours = medians["this loop"]
    columns = ("loop", "codes/s", "ms a step", "matrix products", "ours is faster by")
    table = Table(*columns, title=f"training the prior of {preset}, batch {batch}")
    for name, median in medians.items():
        share = f"{products[name] * 1e3:.1f} ms" if name in products else ""
        table.add_row(name, f"{batch / median:,.0f}", f"{median * 1e3:.1f}", share, f"{median / ours:.1f}")
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu, of this process: on busy machines"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {"conditions": conditions(arguments.threads), "run": arguments.run.name, **speed(arguments)}
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
