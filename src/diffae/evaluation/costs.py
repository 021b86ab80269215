"""How long an evaluation takes: the work of each task, and how fast this machine does it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from diffae.checkpoint import Fingerprint
from diffae.config import ModelConfig, PriorConfig, Sampling
from diffae.evaluation.context import STEPS
from diffae.evaluation.features import FeatureNetwork, Kind
from diffae.evaluation.task import BaselineCounts
from diffae.evaluation.tasks.throughput import measure, median_seconds, timed_step
from diffae.training.prior import PriorTask
from diffae.training.settings import TrainingConfig

EXACT = 2.4
"""Network calls per step of an exact inversion by default; at larger T fewer (docs/experiments/inversion.md)."""

_T = Sampling().steps
_KINDS = 8  # of images, in the task out-of-distribution: unseen, shifted in six ways, textures
_NEIGHBOURS = 100  # pairs of an image or its mirror image and a neighbour, in the task memorisation
_TIMED_STEPS = 4  # of the decoder, when its calls are timed
_SEEN = 64  # images that a feature network is timed on
_CLASSIFIER = 5e-4  # seconds to fit a classifier of an attribute, for each image it is fitted to
_DISTANCES = 5e-3  # seconds of a Frechet and a kernel distance with their intervals, for each image


@dataclass(frozen=True)
class Speeds:
    """How fast this machine is, per second."""

    training: float
    """Images seen in training the autoencoder."""
    baseline: float
    """Images seen in training a network without an encoder."""
    prior: float
    """Codes seen in training the latent prior."""
    calls: float
    """Images in calls of the decoder, one step each."""
    encoding: float
    """Images in calls of the semantic encoder."""
    seeing: float
    """Images in calls of the feature network."""
    comparing: float
    """Pairs of images whose perceptual distance is measured."""


def measure_speeds(
    model: ModelConfig,
    training: TrainingConfig,
    prior: tuple[PriorConfig, TrainingConfig],
    features: FeatureNetwork | None,
    *,
    rounds: int = 2,
) -> Speeds:
    """Time newly initialised networks on random images.

    Args:
        model, training: the autoencoder, with an encoder.
        prior: settings of the latent prior, and of its training.
        features: the feature network, if there is one.
        rounds: timed repetitions, of which the median counts.
    """
    few = Sampling(_TIMED_STEPS)
    ours = measure(model, training, rounds=rounds, sampling=few)
    ddim = measure(replace(model, encoder=None), training, rounds=rounds, sampling=few)
    assert ours.encoding is not None
    return Speeds(
        training=ours.training,
        baseline=ddim.training,
        prior=_prior_speed(model, *prior),
        calls=ours.sampling * _TIMED_STEPS,
        encoding=ours.encoding,
        seeing=_seeing_speed(features, model, "vectors"),
        comparing=_seeing_speed(features, model, "distance"),
    )


def _prior_speed(model: ModelConfig, config: PriorConfig, training: TrainingConfig) -> float:
    codes = np.random.default_rng(0).standard_normal((64, model.z_sem_channels)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        task = PriorTask(config, training, codes, codes[:2], Path(folder), Fingerprint(model, {}))
        step = timed_step(task, training, Path(folder), Console(quiet=True))
        return training.batch_size / median_seconds(step, 10)


def _seeing_speed(features: FeatureNetwork | None, model: ModelConfig, kind: Kind) -> float:
    """Images or pairs per second; infinitely many if the network gives nothing of this kind, which is then not used."""
    if features is None or kind not in features.gives(model.image_size):
        return float("inf")
    x = torch.rand((_SEEN, model.image_channels, model.image_size, model.image_size)) * 2 - 1
    see = features.vectors if kind == "vectors" else lambda x: features.distance(x, x)
    return _SEEN / median_seconds(lambda: see(x), 2)


# ---------------------------------------------------------------------- the work of each task


@dataclass(frozen=True)
class Scale:
    """What the work of a task depends on, besides its counts."""

    train: int
    """Training images."""
    test: int
    """Unseen images."""
    attributes: int
    """Binary attributes; 0 without labels."""
    levels: int
    """T of training."""
    models: int = 2
    """The autoencoder, and the DDIM baseline."""
    baselines: bool = False
    """Whether the autoencoder and the VAE to compare with are trained already."""


@dataclass(frozen=True)
class Work:
    """The work of a task: images in each kind of call, as in `Speeds`, and seconds of other arithmetic."""

    calls: float = 0
    trained: float = 0
    """Images seen in training networks of about the model's size."""
    encoded: float = 0
    seen: float = 0
    compared: float = 0
    """Pairs."""
    seconds: float = 0

    def seconds_at(self, speeds: Speeds) -> float:
        """How long it takes."""
        return (
            self.calls / speeds.calls
            + self.trained / speeds.training
            + self.encoded / speeds.encoding
            + self.seen / speeds.seeing
            + self.compared / speeds.comparing
            + self.seconds
        )


def work_of(task: str, counts: Any, scale: Scale) -> Work:
    """About how much a built-in task does with these counts; nothing is known of other tasks."""
    return _WORK[task](counts, scale) if task in _WORK else Work()


def seconds_of(counts: Mapping[str, Any], scale: Scale, speeds: Speeds) -> dict[str, float]:
    """About how long each task takes, by its name; the first that compares with the baselines trains them."""
    found = {}
    for name, own in counts.items():
        found[name] = work_of(name, own, scale).seconds_at(speeds)
        scale = replace(scale, baselines=scale.baselines or isinstance(own, BaselineCounts))
    return found


def _baselines(c: Any, s: Scale) -> float:
    return 0 if s.baselines else 2 * c.baseline_images


def _every_t(scale: Scale) -> int:
    return sum(t for t in STEPS if t <= scale.levels)


def _reconstruction(c: Any, s: Scale) -> Work:
    n, t = min(c.reconstructed, s.test), _every_t(s)
    return Work(calls=n * t * (s.models * (EXACT + 1 + 1 + 3) + 1), trained=_baselines(c, s), compared=n * 8 * 4)


def _capacity(c: Any, s: Scale) -> Work:
    models, n = len(c.capacities), min(c.reconstructed, s.test)
    probed = min(c.labelled, s.train) + min(c.tested, s.test) if s.attributes else 0
    return Work(n * _T * 3 * models, models * c.capacity_images, models * probed,
                seconds=models * probed * s.attributes * _CLASSIFIER)  # fmt: skip


def _denoising(c: Any, s: Scale) -> Work:
    return Work(calls=min(c.denoised, s.test) * s.models * _T * (EXACT + 1))


def _generation(c: Any, s: Scale) -> Work:
    n, rows = min(c.distribution, s.test), s.models + 2
    times = len([t for t in STEPS if t <= s.levels])
    return Work(calls=n * _every_t(s) * rows, encoded=n, seen=n * (1 + rows * times),
                seconds=n * rows * times * _DISTANCES)  # fmt: skip


def _conditional(c: Any, s: Scale) -> Work:
    sets = min(c.classes, s.attributes) * 2 * 2 * c.draws
    n = min(c.distribution, s.test // 2)
    return Work(sets * n * c.class_steps, encoded=sets * 100, seen=s.test + sets * n, seconds=sets * n * _DISTANCES)


def _attributes(c: Any, s: Scale) -> Work:
    images = min(c.labelled, s.train) + min(c.tested, s.test)
    fitted = 7 * s.attributes * images * _CLASSIFIER
    return Work(trained=_baselines(c, s), encoded=3 * images, seen=images, seconds=fitted)


def _manipulation(c: Any, s: Scale) -> Work:
    names, n = min(c.edited, s.attributes), min(c.distribution // 2, s.test // 4)
    return Work(names * n * _T * 3, encoded=min(c.labelled, s.train), seen=names * n * 4,
                seconds=names * n * 10 * _DISTANCES)  # fmt: skip


def _interpolation(c: Any, s: Scale) -> Work:
    n = min(c.pairs, s.test)
    return Work(calls=n * s.models * _T * (EXACT + 4), compared=n * s.models)


def _variation(c: Any, s: Scale) -> Work:
    return Work(calls=min(c.varied, s.test) * c.variations * _T)


def _memorisation(c: Any, s: Scale) -> Work:
    n, known = min(c.distribution, 500), min(c.known, s.train)
    return Work(calls=n * 20, encoded=known + 4 * n, seen=known + 4 * n, compared=2 * n * _NEIGHBOURS)


def _out_of_distribution(c: Any, s: Scale) -> Work:
    n = min(c.outliers, s.test) * _KINDS
    return Work(calls=n * _T * 3, encoded=n + min(c.labelled, s.train), seconds=n * 2e-3)


def _detection(c: Any, s: Scale) -> Work:
    times = [t for t in c.detected_steps if t <= s.levels]
    kinds = 2 if s.attributes else 1
    made = 1.5 * min(c.detected, 2 * s.test, s.train)
    return Work(made * sum(times) * (1 + 2 * (kinds - 1)), kinds * len(times) * c.detector_images / 2)


def _throughput(c: Any, s: Scale) -> Work:
    return Work(calls=2 * (c.rounds + 1) * 32 * _T, trained=2 * (c.rounds + 1) * 64, encoded=(c.rounds + 1) * 32)


_WORK: dict[str, Callable[[Any, Scale], Work]] = {
    "reconstruction": _reconstruction,
    "capacity": _capacity,
    "denoising": _denoising,
    "generation": _generation,
    "conditional": _conditional,
    "attributes": _attributes,
    "manipulation": _manipulation,
    "interpolation": _interpolation,
    "variation": _variation,
    "memorisation": _memorisation,
    "out-of-distribution": _out_of_distribution,
    "detection": _detection,
    "throughput": _throughput,
}
