"""`diffae encode` of millions of synthetic images through a tiny network: memory, a kill, and the rate.

    python benchmarks/encode_scale.py [--images 10000000] [--threads 1]

The same rate is measured for the encoder of the preset small32, whose calls take longer than reading an image does.

The command is killed by SIGKILL when half of the shards are there, and run again. Memory is the highest resident memory
of the command over that of encoding 1,000 images. The rate is compared with that of the bare model, called on batches
of the same size that are in memory already; starting the command is not counted. Seconds on a machine that does other
work as well say little, so CPU seconds are compared too. They include reading, which threads do beside the model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from measuring import conditions
from rich.console import Console

from diffae.config import ModelConfig, UNetConfig, UNetEncoderConfig
from diffae.data.arrays import write_chunks
from diffae.latent.code_folder import CodeFolder, open_codes
from diffae.latent.encoding import BATCH
from diffae.model import DiffusionAutoencoder
from diffae.presets import presets

SIZE, FEW, CHUNK = 8, 1000, 8192
USUAL = 16_384  # images of the larger network
MIB = 2**20


def tiny_model() -> DiffusionAutoencoder:
    """For images of 8 x 8 pixels."""
    torch.manual_seed(0)
    shared: dict[str, Any] = {"model_channels": 8, "channel_mult": (1, 2), "res_blocks": 1, "attention_resolutions": ()}
    return DiffusionAutoencoder(
        ModelConfig(image_size=SIZE, decoder=UNetConfig(**shared), encoder=UNetEncoderConfig(**shared))
    )


def pixels(count: int, size: int) -> Iterator[np.ndarray]:
    """Random images in chunks."""
    for start in range(0, count, CHUNK):
        shape = (min(CHUNK, count - start), size, size, 3)
        yield np.random.default_rng(start).integers(0, 256, shape, np.uint8)


class Command:
    """A run of `diffae encode`: peak of its resident memory, seconds, and CPU seconds."""

    def __init__(self, model: Path, photos: Path, out: Path, threads: int) -> None:
        words = ["encode", str(model), str(photos), "--out", str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = psutil.Popen([sys.executable, "-m", "diffae", *words], env=environment, stderr=subprocess.PIPE)
        self._start = time.perf_counter()
        self.peak = self.seconds = self.cpu_seconds = 0.0

    def wait(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Wait until it ends, or kill it when `stop` says so; returns its exit code."""
        while self._process.poll() is None:
            with self._process.oneshot():
                self._look()
            if stop():
                self._process.kill()
            time.sleep(0.05)
        assert self._process.stderr is not None
        message = self._process.stderr.read().decode()
        if self._process.returncode > 0:
            sys.exit(message)
        return self._process.returncode

    def _look(self) -> None:
        if self._process.status() == psutil.STATUS_ZOMBIE:
            return
        times = self._process.cpu_times()
        self.peak = max(self.peak, self._process.memory_info().rss / MIB)
        self.seconds, self.cpu_seconds = time.perf_counter() - self._start, times.user + times.system


def tables(folder: Path) -> dict[str, int]:
    """The complete shards, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("codes-*.parquet")}


def bare(model: DiffusionAutoencoder, count: int) -> np.ndarray:
    """Seconds and CPU seconds for each image of the model alone."""
    x = torch.rand(BATCH, *model.image_shape) * 2 - 1
    model.encode_semantic(x)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(0, count, BATCH):
        model.encode_semantic(x)
    return np.array([time.perf_counter() - start, time.process_time() - cpu]) / count


def rate(alone: np.ndarray, command: Command, few: Command, count: int) -> dict[str, float]:
    """Seconds of a command for each of `count` images, beside those of the model alone."""
    each = (command.seconds - few.seconds) / count, (command.cpu_seconds - few.cpu_seconds) / count
    return {
        "images_per_second": 1 / each[0],
        "of_bare_rate": alone[0] / each[0],
        "of_bare_rate_by_cpu": alone[1] / each[1],
        "bare_cpu_us_per_image": 1e6 * alone[1],
        "encode_cpu_us_per_image": 1e6 * each[1],
    }


def prepared(model: DiffusionAutoencoder, name: str, count: int, threads: int, folder: Path) -> tuple[Path, Command]:
    """Save a model and `count` images for it as NAME.npy; returns the model's folder, and encoding few images by it."""
    model.save_pretrained(folder / name)
    size = model.image_shape[1]
    write_chunks(folder / f"{name}-few.npy", pixels(FEW, size))
    write_chunks(folder / f"{name}.npy", pixels(count, size))
    few = Command(folder / name, folder / f"{name}-few.npy", folder / f"{name}-few", threads)
    assert few.wait() == 0
    return folder / name, few


def usual_network(threads: int, folder: Path) -> dict[str, Any]:
    """The rate of the preset small32, untrained."""
    model = DiffusionAutoencoder(presets()["small32"][0])
    saved, few = prepared(model, "small32", USUAL, threads, folder)
    before = bare(model, USUAL // 4)
    command = Command(saved, folder / "small32.npy", folder / "codes-small32", threads)
    assert command.wait() == 0
    return {"images": USUAL} | rate((before + bare(model, USUAL // 4)) / 2, command, few, USUAL - FEW)


def killed_and_resumed(model: Path, photos: Path, out: Path, threads: int) -> tuple[Command, Command, dict[str, Any]]:
    """Encode, with a kill at half of the shards."""
    half = -(-np.load(photos, mmap_mode="r").shape[0] // CHUNK) // 2
    first = Command(model, photos, out, threads)
    assert first.wait(lambda: len(tables(out)) >= half) == -9
    there = tables(out)
    second = Command(model, photos, out, threads)
    assert second.wait() == 0
    now = tables(out)
    written_again = sum(now[name] != when for name, when in there.items())
    facts = {"shards": len(now), "shards_at_the_kill": len(there), "complete_shards_written_again": written_again}
    return first, second, facts


def equals_the_model(model: DiffusionAutoencoder, photos: Path, stored: CodeFolder) -> bool:
    """Whether the first, the middle and the last shard hold what the model gives."""
    images = np.load(photos, mmap_mode="r")
    for number in {0, stored.parts // 2, stored.parts - 1}:
        part = stored.read(number)
        chosen = torch.from_numpy(images[[int(name) for name in part.names]])
        z_sem = model.encode_semantic(chosen.permute(0, 3, 1, 2) / 127.5 - 1)
        if not torch.allclose(z_sem, part.code.z_sem, atol=1e-4):  # pyright: ignore
            return False
    return True


def tiny_network(count: int, threads: int, folder: Path) -> dict[str, Any]:
    """Memory, the kill, and the rate of `count` images through the tiny network."""
    model = tiny_model()
    saved, few = prepared(model, "tiny", count, threads, folder)
    before = bare(model, 64_000)
    first, second, facts = killed_and_resumed(saved, folder / "tiny.npy", folder / "codes", threads)
    encoded = count - facts["shards_at_the_kill"] * CHUNK - FEW  # by the second run
    stored = open_codes(folder / "codes")
    assert isinstance(stored, CodeFolder)
    highest = max(first.peak, second.peak)
    return (
        {"images": stored.count, "equal_to_the_model": equals_the_model(model, folder / "tiny.npy", stored)}
        | facts
        | {"few_mib": few.peak, "many_mib": highest, "over_mib": highest - few.peak}
        | rate((before + bare(model, 64_000)) / 2, second, few, encoded)
    )


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        results = conditions(arguments.threads) | {
            "tiny": tiny_network(arguments.images, arguments.threads, Path(folder)),
            "small32": usual_network(arguments.threads, Path(folder)),
            "load_average": os.getloadavg()[1],
        }
    Console().print_json(data=results)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
