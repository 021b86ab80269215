"""Commands on disks that are full, read-only, faulty, slow or short of breath, and under a clock that goes back."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
from killing import Outcome, Supervisor
from recovery import COMMANDS, contents, goes_on, prepared, uninterrupted

SHORT = (errno.ENOSPC, errno.EDQUOT)
EVERY_TIME = 1000
REFUSING = [{"space": space} for space in (0, 3000, 20_000, 100_000)]
REFUSING += [{"error": errno.EROFS, "chance": EVERY_TIME}, {"error": errno.EDQUOT, "chance": 100}]
REFUSING += [{"error": errno.EIO, "chance": 100, "seed": seed} for seed in (1, 2, 3)]
"""Settings of faults.c under which a command may fail."""
HARMLESS = [{"back": 1_000_000, "at": 20}, {"short": 1, "delay": 300}]
"""Those that no command may notice."""


def says_why(outcome: Outcome, short: bool) -> None:
    """It succeeded, or gave one line that asks for space only where that is short, and finds nothing damaged."""
    assert outcome.code in (0, 2), outcome.output
    assert "Traceback" not in outcome.output, outcome.output
    if outcome.code:
        line = outcome.output.strip().splitlines()[-1]
        assert re.match(r"diffae: error: .*(cannot|disk is full)", line), outcome.output
        assert ("free some space" in line) == short, line
        assert "damaged" not in line, line


def refused(supervisor: Supervisor, start: Path, folder: Path, name: str, refusing: list[dict[str, int]]) -> None:
    """After each failure the command can be run again, and leaves what one leaves that never failed."""
    command = COMMANDS[name]
    _, whole = uninterrupted(supervisor, start, folder / "whole", command)
    for turn, settings in enumerate(refusing):
        work = prepared(start, folder / str(turn))
        says_why(supervisor.run(work, list(command.words), **settings), settings.get("error", errno.ENOSPC) in SHORT)
        again = goes_on(supervisor, work, command)
        assert again.code == 0, (settings, again.output)
        assert contents(work) == whole, settings


@pytest.mark.parametrize(("name", "settings"), [("encode to a table", REFUSING[0]), ("data prepare", REFUSING[-1])])
def test_a_disk_that_refuses(
    supervisor: Supervisor, start: Path, tmp_path: Path, name: str, settings: dict[str, int]
) -> None:
    refused(supervisor, start, tmp_path, name, [settings])


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_disks_that_refuse(supervisor: Supervisor, start: Path, tmp_path: Path, name: str) -> None:
    refused(supervisor, start, tmp_path, name, REFUSING)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_cannot_be_read(supervisor: Supervisor, start: Path, tmp_path: Path, name: str) -> None:
    for seed in range(4):
        settings = {"error": errno.EIO, "chance": 60, "reads": 1, "seed": seed}
        says_why(supervisor.run(prepared(start, tmp_path / str(seed)), list(COMMANDS[name].words), **settings), False)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_not_noticed(supervisor: Supervisor, start: Path, tmp_path: Path, name: str) -> None:
    _, whole = uninterrupted(supervisor, start, tmp_path / "whole", COMMANDS[name])
    for turn, settings in enumerate(HARMLESS):
        work = prepared(start, tmp_path / str(turn))
        outcome = supervisor.run(work, list(COMMANDS[name].words), **settings)
        assert outcome.code == 0, outcome.output
        assert contents(work) == whole, settings


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full device")
def test_an_output_that_is_full() -> None:
    words = [sys.executable, "-m", "diffae", "--version"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert re.fullmatch("diffae: error: the output.*No space left on device.*; free some space\n", result.stderr)
