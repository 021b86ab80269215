"""Commands killed at every point where they touch a file, and at random: run again, they leave what they would have."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_helpers import save_model
from killing import AVAILABLE, Outcome, Supervisor
from safetensors import safe_open

from diffae.cli import main
from sketchfaces import write_sketch_faces

TINY = ("--image-size", "8", "--z-sem-channels", "4", "--images", "24", "--batch-size", "4")
SPACED = ("--validate-every", "12", "--save-every", "8", "--cache", "packs", "--precision", "float32")


pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs Linux and a C compiler")


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


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    started = Supervisor()
    yield started
    started.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a model."""
    folder = tmp_path_factory.mktemp("start")
    write_sketch_faces(folder / "faces", 12, 16, seed=3)
    save_model(folder / "tiny")
    words = ("encode", str(folder / "tiny"), str(folder / "faces"), "--out", str(folder / "codes"), "--steps", "2")
    assert main([*words, "--stochastic"]) == 0
    return folder


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


def check(supervisor: Supervisor, folder: Path, command: Command, whole: dict[str, object], killed: Outcome) -> None:
    """After a kill the command can be run again, and leaves what an uninterrupted run leaves."""
    assert "Traceback" not in killed.output, killed.output
    at = killed.points[-1] if killed.points else "the start"
    again = goes_on(supervisor, folder, command)
    assert again.code == 0, (at, killed.output, again.output)
    found = contents(folder)
    assert sorted(found) == sorted(whole), at
    assert [name for name in whole if found[name] != whole[name]] == [], at


def uninterrupted(supervisor: Supervisor, start: Path, folder: Path, command: Command) -> tuple[int, dict[str, object]]:
    """The number of points of a command, and what it leaves; that of a second run where it cannot be interrupted."""
    outcome = supervisor.run(prepared(start, folder), list(command.words))
    assert outcome.code == 0, outcome.output
    return len(outcome.points), contents(folder)


def at_points(
    supervisor: Supervisor, start: Path, folder: Path, name: str, number: int, most: int | None = None
) -> None:
    """Kill a command at every point, or at so many spread over all."""
    command = COMMANDS[name]
    points, whole = uninterrupted(supervisor, start, folder / "whole", command)
    assert points > 3
    for at in range(points) if most is None else (points * (2 * turn + 1) // (2 * most) for turn in range(most)):
        work = prepared(start, folder / f"at{at}")
        killed = supervisor.run(work, list(command.words), signal=number, at=at)
        assert killed.code in (-signal.SIGKILL, 128 + number, 0), killed.output
        check(supervisor, work, command, whole, killed)
        shutil.rmtree(work)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_some_points(supervisor: Supervisor, start: Path, tmp_path: Path, name: str) -> None:
    at_points(supervisor, start, tmp_path, name, signal.SIGKILL, most=1 if name == "distill" else 2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_point(
    supervisor: Supervisor, start: Path, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    at_points(supervisor, start, tmp_path, name, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random(
    supervisor: Supervisor, start: Path, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    command, draw = COMMANDS[name], random.Random(f"{name} {number}")
    _, whole = uninterrupted(supervisor, start, tmp_path / "whole", command)
    for turn in range(12):
        work = prepared(start, tmp_path / str(turn))
        for _ in range(draw.randint(0, 2)):  # it may be killed again while it goes on
            words = [*command.words, *(command.again if (work / "run").exists() else ())]
            supervisor.run(work, words, signal=number, after=draw.random())
        killed = supervisor.run(work, list(command.words), signal=number, after=draw.random())
        check(supervisor, work, command, whole, killed)
        shutil.rmtree(work)
