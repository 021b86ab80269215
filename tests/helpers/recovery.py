"""The commands that tests/faults disturb, what each leaves, and how its user goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from killing import Outcome, Supervisor
from safetensors import safe_open

TINY = ("--image-size", "8", "--z-sem-channels", "4", "--images", "24", "--batch-size", "4")
SPACED = ("--validate-every", "12", "--save-every", "8", "--cache", "packs", "--precision", "float32")


@dataclass(frozen=True)
class Command:
    """A command line, and how a user goes on after it was killed."""

    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    """Options added when it is run again."""
    instead: tuple[str, ...] = ()
    """Options added where those are refused: nothing had been saved."""


COMMANDS = {
    "train": Command(("train", "faces", "--out", "run", *TINY, *SPACED), ("--resume",), ("--overwrite",)),
    "train-prior": Command(
        ("train-prior", "tiny", "--images", "faces", "--codes", "64", "--batch-size", "8", "--layers", "2"),
        ("--resume",),
        ("--overwrite",),
    ),
    "distill": Command(
        ("distill", "tiny", "--images", "faces", "--length", "16", "--trajectories", "2", "--batch-size", "8"),
        ("--resume",),
        ("--overwrite",),
    ),
    "encode": Command(("encode", "tiny", "faces", "--out", "shards", "--stochastic", "--steps", "2")),
    "encode to a table": Command(("encode", "tiny", "faces", "--out", "codes.parquet", "--labels", "faces/labels.csv")),
    "decode": Command(("decode", "tiny", "codes", "--out", "decoded")),
    "data prepare": Command(("data", "prepare", "images", "faces", "--out", "faces.pack", "--size", "8")),
    "attributes fit": Command(("attributes", "fit", "tiny", "--images", "faces", "--labels", "faces/labels.csv")),
    "reconstruct": Command(("reconstruct", "tiny", "faces/sketch_000000.png", "--out", "pictures", "--steps", "2")),
}


def contents(folder: Path) -> dict[str, object]:
    """All files of a folder: bytes, or the lines of a journal without speeds and times."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "metrics.jsonl":
            lines = map(json.loads, path.read_text().splitlines())
            found[name] = [{key: value for key, value in line.items() if "second" not in key} for line in lines]
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:  # the order of its metadata is not fixed
                tensors = {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
                found[name] = tensors, file.metadata()
        elif path.name == "report.html" or path.name.endswith(".lock"):
            found[name] = None  # holds times, or stays as a file to lock
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def prepared(start: Path, folder: Path) -> Path:
    shutil.copytree(start, folder)
    return folder


def goes_on(supervisor: Supervisor, folder: Path, command: Command) -> Outcome:
    """Run a command again as its user would."""
    again = supervisor.run(folder, [*command.words, *command.again])
    if again.code == 2 and command.instead:
        again = supervisor.run(folder, [*command.words, *command.instead])
    return again


def uninterrupted(supervisor: Supervisor, start: Path, folder: Path, command: Command) -> tuple[int, dict[str, object]]:
    """The number of points of a command, and what it leaves; that of a second run where it cannot be interrupted."""
    outcome = supervisor.run(prepared(start, folder), list(command.words))
    assert outcome.code == 0, outcome.output
    return len(outcome.points), contents(folder)
