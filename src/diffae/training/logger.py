"""Logging of a training run: metrics.jsonl, TensorBoard if requested, and progress."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffae.checkpoint import written_beside
from diffae.errors import TrainingError

METRICS = "metrics.jsonl"
LINE_EVERY_SECONDS = 30.0


class Logger:
    """Writes one JSON line per report, and shows progress: a bar on a terminal, a line every 30 seconds in a log."""

    def __init__(self, folder: Path, total_images: int, console: Console, *, tensorboard: bool = False) -> None:
        self.console = console
        self.path = folder / METRICS
        self.total = total_images
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"))
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images · loss {task.fields[loss]} · {task.fields[rate]} images/s ·"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=total_images, loss="…", rate="…")
        self._last_line = time.monotonic()

    def __enter__(self) -> Logger:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._writer:
            self._writer.close()

    def drop_after(self, step: int) -> None:
        """Drop the lines of steps after `step`, which a resumed run reports again.

        Raises:
            TrainingError: the file cannot be read or written.
        """
        if not self.path.exists():
            return
        try:
            text = self.path.read_text()
        except OSError as error:
            raise TrainingError(f"cannot read {self.path}: {error.strerror}; repair or remove it") from error
        lines = [line for line in text.splitlines() if _step_of(line) <= step]
        with written_beside(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))

    def resume_at(self, images: int) -> None:
        """Set the bar to the images already seen."""
        self._bar.update(self._task, completed=images)

    def report(self, step: int, images: int, **values: float) -> None:
        """Append one line to metrics.jsonl (and to TensorBoard).

        Raises:
            TrainingError: the disk is full, or the file cannot be written.
        """
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, "images": images, **values}) + "\n")
        except OSError as error:
            remedy = "free some space, or make it writable, and resume"
            raise TrainingError(f"cannot write {self.path}: {error.strerror}; {remedy}") from error
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, images)

    def show(self, images: int, loss: float, rate: float) -> None:
        """Move the progress bar, or print a line every 30 seconds where there is no terminal."""
        self._bar.update(self._task, completed=images, loss=f"{loss:.4g}", rate=f"{rate:.0f}")
        if not self.console.is_terminal and time.monotonic() - self._last_line > LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            left = (self.total - images) / max(rate, 1e-9)
            minutes = f"{left / 60:.0f} min left"
            self.console.print(
                f"{images:,} of {self.total:,} images · loss {loss:.4g} · {rate:.0f} images/s · {minutes}"
            )


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by a crash
