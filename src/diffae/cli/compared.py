"""What `diffae evaluate` measures with, and compares a model with: networks, baselines, other systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffae.cli import models
from diffae.cli.terminal import warn
from diffae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from diffae.cli.evaluate import Evaluate
    from diffae.evaluation.baselines import Baseline
    from diffae.evaluation.features import FeatureNetwork
    from diffae.model import DiffusionAutoencoder

_WANTED = {"features": "vectors", "perceptual": "distance", "identity": "vectors"}
_GIVES = {"vectors": "feature vectors", "distance": "feature maps to compare"}


@dataclass(frozen=True)
class Networks:
    """The networks that are measured, and those that measure."""

    model: DiffusionAutoencoder
    features: FeatureNetwork | None
    """For distances between sets of images."""
    perceptual: FeatureNetwork | None
    """For distances between images."""
    identity: FeatureNetwork | None
    """For comparing faces."""
    ddim: DiffusionAutoencoder | None
    capacity: tuple[tuple[str, DiffusionAutoencoder], ...]

    def all(self) -> list[object]:
        """Every network that was given."""
        single = (self.model, self.features, self.perceptual, self.identity, self.ddim)
        return [one for one in (*single, *(model for _, model in self.capacity)) if one is not None]


def open_networks(command: Evaluate) -> Networks:
    """The networks that a command names.

    Raises:
        CheckpointError: no such run, or damaged files.
        ConfigError: the model has no encoder.
        DataError: a network cannot be opened, or does not fit the model.
    """
    model = models.open_model(command.model)
    if not model.config.has_encoder:
        raise ConfigError(f"{command.model} has no encoder (z_sem_channels is 0): name it by --ddim, beside a model")
    capacity = tuple((name, models.open_model(name)) for name in command.capacity)
    return Networks(model, *_feature_networks(command, model), _ddim(model, command.ddim), capacity)


def _feature_networks(
    command: Evaluate, model: DiffusionAutoencoder
) -> tuple[FeatureNetwork | None, FeatureNetwork | None, FeatureNetwork | None]:
    """The networks for distances between sets of images, distances between images, and identity."""
    size, opened = model.image_shape[-1], dict[str, "FeatureNetwork | None"]()
    for option, wanted in _WANTED.items():
        opened[option] = network = _network(model, getattr(command, option))
        if network and wanted not in network.gives(size):
            remedy = f"name another network by --{option}"
            remedy += ", and this one by --perceptual" if option == "features" else ""
            raise DataError(f"{network.name} gives no {_GIVES[wanted]}: {remedy}")
    features, perceptual, identity = opened.values()
    perceptual = perceptual or (features if features and "distance" in features.gives(size) else None)
    found = (features, perceptual, identity)
    distilled = models.settings_of(model).get("data", {}).get("teacher_key")
    for name in {network.name for network in found if network and network.key == distilled}:
        warn(f"this model was distilled from {name}, so its numbers flatter it: name another network")
    return found


def _network(model: DiffusionAutoencoder, source: str | None) -> FeatureNetwork | None:
    """A feature network for the model's images, if one is named."""
    from diffae.evaluation.features import FeatureNetwork
    from diffae.evaluation.known_features import check_channels

    if source is None:
        return None
    check_channels(model.image_shape)
    return FeatureNetwork.open(source)


def open_autoencoders(folders: Sequence[Path]) -> tuple[Baseline, ...]:
    """Autoencoders of diffusers, whose folders' names tables use.

    Raises:
        ConfigError: two folders of the same name.
    """
    from diffae.evaluation.baselines import open_diffusers

    found = tuple(open_diffusers(folder) for folder in folders)
    names = [other.name for other in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"two autoencoders are in folders called {twice!r}: rename one, tables use these names")
    return found


def _ddim(model: DiffusionAutoencoder, run: str | None) -> DiffusionAutoencoder | None:
    """The DDIM baseline, if one is named."""
    if run is None:
        return None
    ddim = models.open_model(run)
    if ddim.config.has_encoder:
        raise DataError(f"baseline {run} has an encoder: --ddim takes a run trained with --no-encoder")
    if ddim.image_shape != model.image_shape:
        made = f"is for images of shape {ddim.image_shape}, the model's are {model.image_shape}"
        raise DataError(f"baseline {run} {made}: train one for the same images")
    return ddim
