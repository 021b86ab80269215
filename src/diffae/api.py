"""Training in one call, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffae.config import ModelConfig
from diffae.data.build import build_pack
from diffae.data.cache import cache_folder
from diffae.data.pack import Pack
from diffae.data.sources import Source, divided
from diffae.errors import CheckpointError, ConfigError
from diffae.model import DiffusionAutoencoder
from diffae.presets import Recipe, presets
from diffae.training.autoencoder import train_autoencoder
from diffae.training.held_out import MINIMUM_IMAGES
from diffae.training.trackers import TrackerName


def train(
    images: Any,
    out: str | Path,
    preset: str = "small32",
    *,
    recipe: Recipe = "default",
    model: ModelConfig | None = None,
    labels: str | Path | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    track: Sequence[TrackerName] = (),
    **training: Any,
) -> DiffusionAutoencoder:
    """Train a diffusion autoencoder on images, and return it.

    Args:
        images: a folder or another source that `diffae train` reads, a pack, or a torch `Dataset` of images.
        out: the run folder to make.
        preset, recipe: named settings.
        model: settings of the model in place of the preset's.
        labels: a table of labels whose column "split" says which images to train on ("train") and to validate on
            ("val"); for images that are named by a path.
        cache: folder for the decoded images; by default that of `diffae train`.
        resume, overwrite, track: see `train_autoencoder`.
        training: fields of `TrainingConfig` in place of the preset's; `seen` is the length of training, in images.

    Raises:
        ConfigError: a preset or setting that does not exist, or a value that is not allowed.
        DataError: images that cannot be used.
        CheckpointError: a run folder that exists; or training was interrupted, and is saved in `out`.
    """
    named = presets(recipe)
    if preset not in named:
        raise ConfigError(f"preset is {preset!r}: choose one of {', '.join(named)}")
    settings, config = named[preset]
    settings = model or settings
    try:
        config = replace(config, **{"images" if name == "seen" else name: value for name, value in training.items()})
    except TypeError as error:
        raise ConfigError(f"{error}: name fields of TrainingConfig, or `seen`") from None
    data = {"preset": preset, "preset_images": named[preset][1].images, "recipe": recipe}
    if isinstance(images, (str, Path)):
        pack = _packed(divided(images, labels) if labels else images, settings, Path(cache or cache_folder()))
        given = replace(settings.input, window=pack.window, dtype=pack.samples)
        settings, data["source"], images = replace(settings, input=given), str(images), pack
        data |= pack.record() | ({"labels": str(labels)} if labels else {})
    elif labels:
        raise ConfigError(f"labels is {str(labels)!r}: needs images that are named by a path; drop it")
    if not train_autoencoder(images, out, settings, config, data=data, resume=resume, overwrite=overwrite, track=track):
        raise CheckpointError(f"training was interrupted, and is saved in {out}: continue with resume=True")
    return DiffusionAutoencoder.from_pretrained(out)


def _packed(source: str | Path | Source, model: ModelConfig, cache: Path) -> Pack:
    given = model.input
    return build_pack(
        source,
        cache,
        size=model.image_size,
        channels=model.image_channels,
        crop=given.crop,
        background=given.background,
        window=given.window,
        at_least=MINIMUM_IMAGES,
        progress=True,
    )
