"""Trained models that come with the package, each a folder with config.json and model.safetensors."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from diffae.errors import CheckpointError


def pretrained_path(name: str = "sketch32") -> Path:
    """The folder of a model in the package, for `DiffusionAutoencoder.from_pretrained`.

    Args:
        name: "sketch32": 32x32 faces drawn by `sketchfaces.sketch_faces`.

    Raises:
        CheckpointError: this installation has no such model.
    """
    folder = Path(str(files("diffae.pretrained"))) / name
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(f"{folder} has no model.safetensors: this installation lacks it; install diffae again")
    return folder
