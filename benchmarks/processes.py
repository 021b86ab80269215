"""Processor time of two processes against one, for commands that `torchrun` can start; prints a table and writes JSON.

    python benchmarks/processes.py [--commands train sample ...]

Each command does a small and a large amount of work, by one process and by two, each with one thread. What the large
one takes more is the work itself; the rest is starting Python, importing, opening the model, and `torchrun`. Networks
are the preset small32 on drawn faces, trained for a few steps: what they have learnt does not change the time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import conditions
from rich.console import Console
from rich.table import Table

from sketchfaces import write_sketch_faces

FACES = 160
TRAIN = ("--preset", "small32", "--batch-size", "32")


@dataclass(frozen=True)
class Work:
    """A command line that does `amounts` of work, a little and much."""

    name: str
    unit: str
    words: tuple[str, ...]
    amounts: tuple[int, int]


WORKS = (
    Work("train", "images seen", ("train", "{faces}", "--out", "{out}", "--images", "{amount}", *TRAIN), (64, 384)),
    Work("train-prior", "codes seen", ("train-prior", "{out}", "--images", "{faces}", "--codes", "{amount}"),
         (20_000, 100_000)),
    Work("sample", "images", ("sample", "{run}", "--out", "{out}", "--steps", "10", "--count", "{amount}"), (128, 384)),
    Work("evaluate", "images decoded",
         ("evaluate", "{run}", "variation", "--images", "{faces}", "--out", "{out}", "--counts", "varied=8",
          "variations={each}"), (64, 256)),
)  # fmt: skip
"""{run} is a run with a prior, {out} a new folder, for train-prior a copy of the run; {each} is an eighth."""


def seconds_of(command: list[str], processes: int, folder: Path) -> float:
    """Processor time of a command and of all that it starts."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    start = [sys.executable, *(torchrun if processes > 1 else []), "-m", "diffae"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*start, *command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(work: Work, folder: Path, faces: Path, run: Path) -> dict[str, Any]:
    """Seconds of both amounts by one process and by two, and the ratio of what the larger amount adds."""
    seconds: dict[int, list[float]] = {}
    for processes in (1, 2):
        seconds[processes] = []
        for amount in work.amounts:
            out = folder / f"{work.name}-{processes}-{amount}"
            if work.name == "train-prior":
                subprocess.run(["cp", "-r", run, out], check=True)
                (out / "prior.safetensors").unlink()
            words = [word.format(faces=faces, run=run, out=out, amount=amount, each=amount // 8) for word in work.words]
            seconds[processes].append(seconds_of(words, processes, folder))
    added = {processes: most - least for processes, (least, most) in seconds.items()}
    return {
        "command": work.name,
        "unit": work.unit,
        "amounts": work.amounts,
        "cpu_seconds_of_1": seconds[1],
        "cpu_seconds_of_2": seconds[2],
        "ratio": added[2] / added[1],
    }


def _measured(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier measurement, by command."""
    return {row["command"]: row for row in json.loads(path.read_text())["rows"]} if path.is_file() else {}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    names = [work.name for work in WORKS]
    parser.add_argument("--commands", nargs="+", choices=names, default=names, help="others keep their numbers")
    arguments = parser.parse_args()
    rows = _measured(arguments.json)
    table = Table("command", "work", "1 process: CPU s", "2 processes: CPU s", "ratio of the work")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faces, run = folder / "faces", folder / "run"
        write_sketch_faces(faces, FACES, 32, seed=0)
        seconds_of(["train", str(faces), "--out", str(run), "--images", "32", *TRAIN], 1, folder)
        seconds_of(["train-prior", str(run), "--codes", "1000"], 1, folder)
        for work in WORKS:
            if work.name in arguments.commands:
                rows[work.name] = measure(work, folder, faces, run)
                results = {"conditions": conditions(1), "rows": list(rows.values())}
                arguments.json.write_text(json.dumps(results, indent=2) + "\n")
            if (row := rows.get(work.name)) is None:
                continue
            one, two = (", ".join(f"{s:.1f}" for s in row[f"cpu_seconds_of_{count}"]) for count in (1, 2))
            amounts = " and ".join(f"{amount:,}" for amount in work.amounts)
            table.add_row(work.name, f"{amounts} {work.unit}", one, two, f"{row['ratio']:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
