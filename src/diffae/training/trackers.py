"""Experiment trackers, through accelerate: TensorBoard, Weights & Biases, MLflow, trackio."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diffae.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]


def require_installed(names: Sequence[str]) -> None:
    """Raise `ConfigError` unless the packages of all trackers are installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"track is {name}: that package is not installed; pip install {name}, or drop it")


class Tracker:
    """One tracker of a run.

    Args:
        name: which.
        folder: the run folder; TensorBoard writes its events into `tensorboard/` there.
        settings: of the run, which the tracker records.
    """

    def __init__(self, name: TrackerName, folder: Path, settings: Mapping[str, Any]) -> None:
        from accelerate import tracking

        run = folder.resolve().name
        self._name = name
        self._tracker: Any = {
            "tensorboard": lambda: tracking.TensorBoardTracker("tensorboard", folder),
            "wandb": lambda: tracking.WandBTracker("diffae", name=run, dir=str(folder)),
            "mlflow": lambda: tracking.MLflowTracker("diffae", run_name=run),
            "trackio": lambda: tracking.TrackioTracker("diffae", name=run),
        }[name]()
        self._tracker.start()
        if name != "tensorboard":  # its table of settings makes a second run, with no curves
            self._tracker.store_init_configuration(dict(flat(settings)))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers."""
        self._tracker.log(dict(values), step=step)

    def picture(self, pixels: np.ndarray, step: int) -> None:
        """Record the sheet of a validation, (h, w, 3) uint8."""
        name = "validation"
        if self._name == "tensorboard":
            self._tracker.log_images({name: pixels}, step=step, dataformats="HWC")
        elif self._name == "wandb":
            self._tracker.log_images({name: [pixels]}, step=step)
        elif self._name == "mlflow":
            import mlflow  # pyright: ignore[reportMissingImports]

            mlflow.log_image(pixels, key=name, step=step)
        else:
            import trackio  # pyright: ignore[reportMissingImports]

            self._tracker.log({name: trackio.Image(pixels)}, step=step)

    def close(self) -> None:
        """Write what is left."""
        self._tracker.finish()


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as pairs of a dotted name and a text."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
