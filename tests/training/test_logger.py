"""metrics.jsonl: lines written, lines dropped when a run is resumed, and files that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from diffae.errors import TrainingError
from diffae.training.logger import Logger
from diffae.training.metrics import METRICS


def logger(folder: Path) -> Logger:
    return Logger(folder, 64, Console(quiet=True))


def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / METRICS).symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"cannot write .*metrics\.jsonl: No space left on device; free some space"):
        logger(tmp_path).report(1, 8, loss=0.5)


def test_lines_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / METRICS).mkdir()
    with pytest.raises(TrainingError, match=r"cannot read .*metrics\.jsonl: Is a directory; repair or remove it"):
        logger(tmp_path).drop_after(1)


def test_lines_after_a_step_are_dropped(tmp_path: Path) -> None:
    logger(tmp_path).drop_after(3)  # there is no file yet
    assert not (tmp_path / METRICS).exists()
    for step in (1, 2, 3, 4):
        logger(tmp_path).report(step, 8 * step, loss=0.5)
    kept = (tmp_path / METRICS).read_text().splitlines()[:2]
    assert [json.loads(line) for line in kept] == [{"step": s, "images": 8 * s, "loss": 0.5} for s in (1, 2)]
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 1, "imag')  # the process was killed while it wrote
    logger(tmp_path).drop_after(2)
    assert (tmp_path / METRICS).read_text().splitlines() == kept


@pytest.mark.parametrize("line", ["5", "[]", '{"images": 3}', "null", "half"])
def test_lines_without_a_step_are_dropped(tmp_path: Path, line: str) -> None:
    (tmp_path / METRICS).write_text(f'{{"step": 1}}\n{line}\n')
    logger(tmp_path).drop_after(100)
    assert (tmp_path / METRICS).read_text() == '{"step": 1}\n'
