"""Preparing images: images/s against bare loops around Pillow on the same files, and memory by the number of images.

    python benchmarks/data_speed.py [--images 1000] [--many 100000] [--rounds 5]

Speed: drawn photographs (JPEG 500x400 and PNG 256x256) become packs of 64x64, alternating with two loops over as many
threads that only decode, crop the square and scale it with a Lanczos filter, and keep nothing: "plain" as one would
write it, "fast" with Pillow's decoding of JPEGs at reduced size. Medians over the rounds of images per second, and of
milliseconds of CPU time per image, which other work on the machine disturbs less.

Memory: the highest resident memory of a process that prepares 1,000 images, and of one that prepares many, for each
kind of container.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import lmdb
import numpy as np
from measuring import conditions
from PIL import Image
from rich.console import Console

from diffae.data.build import prepare_pack
from diffae.data.images import ImageSpec
from diffae.data.sources import open_source

SIZE = 64
FEW = 1000
KINDS = {"jpeg": ((500, 400), "JPEG"), "png": ((256, 256), "PNG")}


def photograph(rng: np.random.Generator, size: tuple[int, int], kind: str) -> bytes:
    """Soft shapes with grain, which compress about as photographs do."""
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (size[1], size[0], 1))
    pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=90)
    return buffer.getvalue()


def bare(path: Path, *, fast: bool) -> np.ndarray:
    """Decode, cut out the square, scale."""
    with Image.open(path) as image:
        if fast:
            image.draft("RGB", (2 * SIZE, 2 * SIZE))
        picture = image.convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    gap = 3.0 if fast else None
    return np.asarray(
        picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS, (left, top, left + side, top + side), reducing_gap=gap)
    )


def prepared(source: Path, out: Path) -> None:
    prepare_pack(open_source(source), out, ImageSpec(size=SIZE), source="benchmark")


def speed(kind: str, count: int, rounds: int, folder: Path) -> dict[str, float]:
    """Images per second of preparing and of the loops, in turns, and what they take of the CPU."""
    rng = np.random.default_rng(0)
    (folder / kind).mkdir()
    paths = [folder / kind / f"{i:06d}.{kind}" for i in range(count)]
    for path in paths:
        path.write_bytes(photograph(rng, *KINDS[kind]))
    threads = os.cpu_count() or 1

    def loop(fast: bool) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda path: bare(path, fast=fast), paths):
                pass

    turns: dict[str, Callable[[int], None]] = {
        "plain": lambda _: loop(False),
        "fast": lambda _: loop(True),
        "prepare": lambda number: prepared(folder / kind, folder / f"{kind}-{number}.pack"),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, work in turns.items():
            start, used = time.perf_counter(), time.process_time()
            work(number)
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - start, time.process_time() - used))
    rates = {name: count / median(wall for wall, _ in taken) for name, taken in seconds.items()}
    cpu = {name: 1000 * median(used for _, used in taken) / count for name, taken in seconds.items()}
    shares = {"of_plain": rates["prepare"] / rates["plain"], "of_fast": rates["prepare"] / rates["fast"]}
    work = {"cpu_of_plain": cpu["plain"] / cpu["prepare"], "cpu_of_fast": cpu["fast"] / cpu["prepare"]}
    return rates | {f"{name}_cpu_ms": used for name, used in cpu.items()} | shares | work


def little(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and files of many small images."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 90, 30)).save(buffer, "PNG")
    return ((f"{i:07d}", buffer.getvalue()) for i in range(count))


def make_folder(path: Path, count: int) -> None:
    path.mkdir()
    for name, data in little(count):
        (path / f"{name}.png").write_bytes(data)


def make_lmdb(path: Path, count: int) -> None:
    with lmdb.open(str(path), map_size=2**33) as environment, environment.begin(write=True) as transaction:
        for name, data in little(count):
            transaction.put(f"256-{name}".encode(), data)
        transaction.put(b"length", str(count).encode())


def make_tar(path: Path, count: int) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in little(count):
            info = tarfile.TarInfo(f"{name}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


CONTAINERS = {"folder": make_folder, "lmdb": make_lmdb, "shard.tar": make_tar}


def peak(source: Path) -> float:
    """Highest resident memory in MiB of a process that prepares these images."""
    command = [sys.executable, __file__, "--prepare", str(source)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory(kind: str, many: int, folder: Path) -> dict[str, float]:
    """Highest resident memory for few and for many images."""
    found = []
    for count in (FEW, many):
        source = folder / f"{count}-{kind}"
        CONTAINERS[kind](source, count)
        found.append(peak(source))
    few, most = found
    return {"few_mib": few, "many_mib": most, "over_mib": most - few, "bytes_per_image": (most - few) * 2**20 / many}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--prepare", type=Path, help="(for its own use) prepare these images, print the memory in MiB")
    arguments = parser.parse_args()
    if arguments.prepare:
        prepared(arguments.prepare, Path(f"{arguments.prepare}.pack"))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    console = Console()
    results = conditions(0) | {"images": arguments.images, "many": arguments.many, "size": SIZE, "few": FEW}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in KINDS:
            results[kind] = found = speed(kind, arguments.images, arguments.rounds, folder)
            rates = ", ".join(f"{name} {found[name]:.0f}" for name in ("prepare", "plain", "fast"))
            shares = f"{found['of_plain']:.0%} of plain, {found['of_fast']:.0%} of fast"
            by_cpu = f"{found['cpu_of_plain']:.0%} and {found['cpu_of_fast']:.0%} by CPU time"
            console.print(f"{kind}: images/s {rates}: {shares}, {by_cpu}", soft_wrap=True)
        for kind in CONTAINERS:
            results[kind] = found = memory(kind, arguments.many, folder)
            console.print(
                f"{kind}: {found['many_mib']:.0f} MiB for {arguments.many:,} images, {found['few_mib']:.0f} MiB for "
                f"{FEW:,}: {found['bytes_per_image']:.0f} bytes for each image",
                soft_wrap=True,
            )
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
