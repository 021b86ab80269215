"""Commands killed at every point where they touch a file, and at random: run again, they leave what they would have."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest
from killing import Outcome, Supervisor
from recovery import COMMANDS, Command, contents, goes_on, prepared, uninterrupted


def check(supervisor: Supervisor, folder: Path, command: Command, whole: dict[str, object], killed: Outcome) -> None:
    """After a kill the command can be run again, and leaves what an uninterrupted run leaves."""
    assert "Traceback" not in killed.output, killed.output
    at = killed.points[-1] if killed.points else "the start"
    again = goes_on(supervisor, folder, command)
    assert again.code == 0, (at, killed.output, again.output)
    found = contents(folder)
    assert sorted(found) == sorted(whole), at
    assert [name for name in whole if found[name] != whole[name]] == [], at


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
    at_points(supervisor, start, tmp_path, name, signal.SIGKILL, most=1 if name in ("train", "distill") else 2)


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
