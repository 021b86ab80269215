"""Logging of a training run: metrics.jsonl, TensorBoard if requested, and progress."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from diffae.checkpoint import cannot_write, written_beside
from diffae.console import Update, progress
from diffae.errors import TrainingError

METRICS = "metrics.jsonl"


class Logger:
    """Writes one JSON line per report, and shows progress while it is entered.

    Args:
        folder: for metrics.jsonl and, if requested, TensorBoard events.
        total_images: length of the training.
        console: where progress is shown.
        tensorboard: whether to write TensorBoard events.
    """

    def __init__(self, folder: Path, total_images: int, console: Console, *, tensorboard: bool = False) -> None:
        self.console = console
        self.path = folder / METRICS
        self.total, self.seen = total_images, 0
        self._update: Update | None = None
        self._stack = ExitStack()
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = self._stack.enter_context(SummaryWriter(str(folder / "tensorboard")))

    def __enter__(self) -> Logger:
        bar = progress("training", self.total, start=self.seen, output=self.console, transient=False)
        self._update = self._stack.enter_context(bar)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

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
        """Start the progress at the images already seen."""
        self.seen = images

    def report(self, step: int, images: int, **values: float) -> None:
        """Append one line to metrics.jsonl (and to TensorBoard).

        Raises:
            TrainingError: the disk is full, or the file cannot be written.
        """
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, "images": images, **values}) + "\n")
        except OSError as error:
            raise TrainingError(f"{cannot_write(self.path, error)}, and resume") from error
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, images)

    def show(self, images: int, loss: float) -> None:
        """Show how many images were seen, with the loss of the latest."""
        if self._update is not None:
            self._update(images, f"loss {loss:.4g}")


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by a crash
