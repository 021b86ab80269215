"""What cannot be told is an error of training, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from diffae.errors import TrainingError
from diffae.training.logger import METRICS, Journal


def journal(folder: Path) -> Journal:
    return Journal(folder, 64, Console(quiet=True))


def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / METRICS).symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"cannot write .*metrics\.jsonl: No space left on device; free some space"):
        journal(tmp_path).report(1, 8, loss=0.5)


def test_lines_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / METRICS).mkdir()
    with pytest.raises(TrainingError, match=r"cannot read .*metrics\.jsonl: Is a directory; mend or remove it"):
        journal(tmp_path).forget_after(1)
