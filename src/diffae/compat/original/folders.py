"""Run folders from published checkpoints, and published checkpoints from run folders."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from diffae import checkpoint, hub
from diffae.checkpoint import Fingerprint
from diffae.compat.original import writing
from diffae.compat.original.architecture import Facts
from diffae.compat.original.names import networks_of
from diffae.compat.original.reading import CELEBA, Classifier, Which, read, read_classifier
from diffae.config import ModelConfig
from diffae.errors import CheckpointError, ConfigError
from diffae.latent.attributes import ATTRIBUTES, Attribute, AttributeDirections
from diffae.latent.prior import PRIOR, LatentPrior
from diffae.latent.probes import Score


def import_official(
    path: str | Path,
    out: str | Path,
    *,
    latent: str | Path | None = None,
    classifier: str | Path | None = None,
    stats: str | Path | None = None,
    facts: Facts | None = None,
    which: Which = "raw",
    names: Sequence[str] = (),
) -> None:
    """Make a run folder of published checkpoints. Runs no pickled code, and leaves nothing behind on failure.

    Args:
        path: `last.ckpt` of an autoencoder, with or without latent net, or of a DDIM.
        out: the run folder to make.
        latent, stats, facts: see `diffae.compat.original.reading.read`.
        classifier, which, names: a linear classifier's `last.ckpt`, see `reading.read_classifier`.

    Raises:
        CheckpointError: files that cannot be read or do not fit together, or a folder that exists already.
        ConfigError: statistics or a classifier for which there is no use.
        TrainingError: the folder cannot be written.
    """
    refuse_existing(Path(out))
    given = {name: Path(value).name for name, value in (("latent", latent), ("classifier", classifier)) if value}
    published, directions = read(path, facts or Facts(), latent, stats), None
    d, prior = published.config.z_sem_channels, published.prior
    if stats is not None and prior is None and classifier is None:
        raise ConfigError(f"stats is {str(stats)!r}: there is no latent net and no classifier they are for; drop them")
    if classifier is not None:
        if not d:
            raise ConfigError(f"classifier is {str(classifier)!r}: {path} has no encoder it could read; drop it")
        directions = directions_of(read_classifier(classifier, d, stats, which=which, names=names))
    fingerprint = Fingerprint(published.config, published.weights)
    with folder_beside(Path(out)) as folder:
        checkpoint.write_config(folder, published.config, official={"checkpoint": Path(path).name, **given})
        checkpoint.write_tensors(folder / checkpoint.WEIGHTS, published.weights, {})
        if prior is not None:
            prior.save(folder, fingerprint)
        if directions is not None:
            directions.save(folder, fingerprint)


def export_official(run: str | Path, out: str | Path) -> tuple[list[str], list[str]]:
    """Write a run's weights as published checkpoints, with a template of settings for the published code.

    Args:
        run: run folder.
        out: folder to make: last.ckpt and template.py; of a prior latent.ckpt and latent.pkl; of attributes cls.ckpt.

    Returns:
        The files written, and notes on what must be changed in the published code, or is left out.
    Raises:
        CheckpointError: networks that the published code cannot run, or a folder that is there already.
        TrainingError: the folder cannot be written.
    """
    refuse_existing(Path(out))
    folder = hub.locate(run)
    config = checkpoint.read_model_config(folder)
    weights, _ = checkpoint.read_tensors(folder / checkpoint.WEIGHTS)
    settings = writing.settings_of(config)
    networks = networks_of(config)
    checkpoint.load_weights(networks, weights, folder / checkpoint.WEIGHTS)
    weights = networks.state_dict()  # complete, and in the order of the fingerprint
    tensors, fingerprint = writing.autoencoder_tensors(config, weights), Fingerprint(config, weights)
    found = LatentPrior.load(folder, fingerprint) if (folder / PRIOR).exists() else None
    prior = found if found is not None and found.config.diffusion.prediction == "eps" else None
    directions = AttributeDirections.load(folder, fingerprint) if (folder / ATTRIBUTES).is_file() else None
    with folder_beside(Path(out)) as folder:
        writing.write_networks(folder / "last.ckpt", config, tensors, settings)
        if prior is not None:
            settings |= writing.latent_settings_of(prior.config)
            both = {"conds_mean": prior.mean[None], "conds_std": prior.std[None]}
            latent = {**tensors, **writing.latent_tensors(prior)}
            writing.write_networks(folder / "latent.ckpt", config, latent, settings, **both)
            _write_statistics(folder / "latent.pkl", prior.mean, prior.std)
        if directions is not None:
            _write_directions(folder, directions)
        prior_config, has_classifier = prior.config if prior is not None else None, directions is not None
        text = writing.template(Path(out).name, config, prior_config, classifier=has_classifier)
        (folder / "template.py").write_text(text)
        files = sorted(path.name for path in folder.iterdir())
    return files, _notes(config, found, directions)


def _notes(config: ModelConfig, prior: LatentPrior | None, directions: AttributeDirections | None) -> list[str]:
    notes, channels = [], config.image_channels
    if channels != 3:
        where = f"change in_channels and model_out_channels to {channels}"
        notes.append(f"the published config.py states 3 channels; {where}")
    if prior is not None and (prediction := prior.config.diffusion.prediction) != "eps":
        notes.append(f"the prior is left out: it predicts {prediction}, the published code supports only eps")
    if directions is not None and set(directions.names_) != set(CELEBA):
        notes.append("the published ClsModel takes CelebA's 40 attributes; change id_to_cls to those in cls.ckpt")
    return notes


def directions_of(classifier: Classifier) -> AttributeDirections:
    """A published classifier as attribute directions; its scores and medians are unknown."""
    directions = AttributeDirections()
    unknown = Score("AUROC", math.nan, math.nan, math.nan, 0)
    directions.attributes_ = {name: Attribute(name, "binary", name, 0, None, unknown) for name in classifier.names}
    directions.mean_ = classifier.statistics.mean.double().numpy()
    directions.std_ = classifier.statistics.std.double().numpy()
    directions.weights_ = classifier.weight.double().numpy()
    directions.moves_ = directions.weights_.copy()  # as if z_norm were uncorrelated: its covariance is unknown
    directions.intercepts_ = classifier.bias.double().numpy()
    directions.medians_ = np.full(len(classifier.names), math.nan)
    return directions


def _write_directions(folder: Path, directions: AttributeDirections) -> None:
    """All directions, in CelebA's order if they are CelebA's attributes."""
    names = CELEBA if set(directions.names_) == set(CELEBA) else directions.names_
    rows = [directions.index(name) for name in names]
    mean, std = torch.from_numpy(directions.mean_).float(), torch.from_numpy(directions.std_).float()
    weight = torch.from_numpy(directions.weights_[rows]).float()
    bias = torch.from_numpy(directions.intercepts_[rows]).float()
    writing.write_classifier(folder / "cls.ckpt", names, weight, bias, conds_mean=mean[None], conds_std=std[None])
    if not (folder / "latent.pkl").exists():
        _write_statistics(folder / "latent.pkl", mean, std)


def _write_statistics(path: Path, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Mean and standard deviation; `conds`, which the published code needs for training only, are left empty."""
    content = {"conds": torch.zeros(0, len(mean)), "conds_mean": mean, "conds_std": std}
    writing.write_pickle(path, content)


def refuse_existing(out: Path) -> None:
    """Raise `CheckpointError` if the path exists and is not an empty folder."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CheckpointError(f"{out} exists already: choose another --out, for a new folder")


@contextmanager
def folder_beside(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, renamed to it when the block ends well, removed when it does not."""
    out = out.resolve()
    with checkpoint.folder_beside(out) as beside:
        folder = beside / out.name
        folder.mkdir()
        yield folder
        os.replace(folder, out)
