"""Logging of a training run: metrics.jsonl, experiment trackers, and progress."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.console import Console

from diffae.checkpoint import cannot_write, written_beside
from diffae.console import Update, progress
from diffae.errors import TrainingError
from diffae.training.metrics import METRICS

if TYPE_CHECKING:
    from diffae.training.trackers import Tracker


SAMPLES = "samples"
"""Folder of the pictures of validations, IMAGES.png."""


class Logger:
    """Writes one JSON line per report, and shows progress while it is entered.

    Args:
        folder: for metrics.jsonl.
        total_images: length of the training.
        console: where progress is shown.
        trackers: they record the same numbers, and the pictures of validations. Closed when the logger is left.
    """

    def __init__(self, folder: Path, total_images: int, console: Console, trackers: Sequence[Tracker] = ()) -> None:
        self.folder, self.console, self.trackers = folder, console, trackers
        self.path = folder / METRICS
        self.total, self.seen = total_images, 0
        self._loss: float | None = None
        self._update: Update | None = None
        self._bar = ExitStack()

    def __enter__(self) -> Logger:
        self._show_training()
        return self

    def _show_training(self) -> None:
        self._update = self._bar.enter_context(progress("training", self.total, start=self.seen, output=self.console))

    @contextmanager
    def validating(self) -> Iterator[Update]:
        """Show the progress of a validation, in percent, in place of that of training."""
        self._bar.close()
        with progress("validating", 100, "%", output=self.console) as update:
            yield update
        self._show_training()

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        for tracker in self.trackers:
            tracker.close()

    def drop_after(self, step: int) -> None:
        """Drop the lines of steps after `step`, which a resumed run reports again.

        Raises:
            TrainingError: the file cannot be read or written.
        """
        if not self.path.exists():
            return
        try:
            text = self.path.read_text(errors="replace")
        except OSError as error:
            raise TrainingError(f"cannot read {self.path}: {error.strerror}; repair or remove it") from error
        lines = [line for line in text.splitlines() if _step_of(line) <= step]
        with written_beside(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))

    def resume_at(self, images: int) -> None:
        """Start the progress at the images already seen."""
        self.seen = images

    def report(self, step: int, images: int, **values: float) -> None:
        """Append one line to metrics.jsonl, and tell the trackers.

        Raises:
            TrainingError: the disk is full, or the file cannot be written.
        """
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, "images": images, **values}) + "\n")
        except OSError as error:
            raise TrainingError(f"{cannot_write(self.path, error)}, and resume") from error
        for tracker in self.trackers:
            tracker.scalars(values, images)

    def picture(self, images: int) -> None:
        """Show the trackers the picture of a validation, if it made one."""
        path = self.folder / SAMPLES / f"{images:09d}.png"
        if self.trackers and path.is_file():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            for tracker in self.trackers:
                tracker.picture(pixels, images)

    def show(self, images: int, loss: float | None = None) -> None:
        """Show how many images were seen, with the loss last told."""
        self.seen, self._loss = images, self._loss if loss is None else loss
        if self._update is not None:
            self._update(images, "" if self._loss is None else f"loss {self._loss:.4g}")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")  # a line cut short by a crash
