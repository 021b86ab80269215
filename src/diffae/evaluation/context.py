"""What tasks work on: the model, images it has seen and others, what it is compared with, and how much is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from diffae.config import Sampling, TrainingConfig
from diffae.data.feature_cache import encode_pack
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError
from diffae.evaluation.baselines import Baseline, pca, plain
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.linear_probe import readable
from diffae.evaluation.results import Skipped
from diffae.latent.attributes import AttributeDirections
from diffae.model import Code, DiffusionAutoencoder

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""What is being done, and how many; the function yielded takes how many are done."""

_MOST_VALUES = 2**28  # of the images that baselines are fitted to: 1 GiB

STEPS = (10, 20, 50, 100)
"""T of the paper's tables."""


@dataclass(frozen=True)
class Counts:
    """How much is measured: images unless said otherwise."""

    reconstructed: int
    denoised: int
    pairs: int
    """Of path length."""
    varied: int
    variations: int
    """Of each of those."""
    distribution: int
    """Samples, and real images, of a distance of distributions."""
    labelled: int
    """Training images that linear readers are fitted to."""
    tested: int
    """Unseen images that linear readers are tested on."""
    outliers: int
    """Of each kind."""
    detected: int
    """Real, and as many generated, that detectors are trained on; half as many test them."""
    learnt: int
    """Different images that a baseline is fitted to."""
    baseline_images: int
    """Images seen in training a baseline."""
    detector_images: int
    """Images seen in training a detector."""
    rounds: int
    """Of timing."""
    edited: int
    """Attributes that are edited."""
    classes: int
    """Attributes that few-shot sampling is tried on."""
    class_steps: int
    """T of its samples."""
    draws: int
    """Its repetitions."""
    capacities: tuple[int, ...]
    """Sizes of z_sem that are trained."""
    capacity_images: int
    """Images seen in training each."""
    known: int
    """Images of training that samples are compared with; and that are drawn again, of a model of drawn faces."""


QUICK = Counts(
    reconstructed=6, denoised=8, pairs=12, varied=6, variations=12, distribution=48, labelled=800, tested=400,
    outliers=20, detected=64, learnt=1_000, baseline_images=1_600, detector_images=4_800, rounds=3, edited=2,
    classes=1, class_steps=10, draws=2, capacities=(16, 64), capacity_images=1_000, known=1_000,
)  # fmt: skip
FULL = Counts(
    reconstructed=256, denoised=256, pairs=512, varied=32, variations=64, distribution=2_000, labelled=5_000,
    tested=1_500, outliers=256, detected=2_000, learnt=20_000, baseline_images=250_000, detector_images=128_000,
    rounds=9, edited=12, classes=3, class_steps=100, draws=3, capacities=(64, 128, 256, 512), capacity_images=250_000,
    known=10_000_000,
)  # fmt: skip


def with_counts(counts: Counts, changes: Sequence[str]) -> Counts:
    """Counts with some replaced, each given as NAME=NUMBER; of `capacities` several, 64,128.

    Raises:
        ConfigError: an unknown name, or a number that is not positive.
    """
    names = [field.name for field in fields(counts)]
    found: dict[str, int | tuple[int, ...]] = {}
    for change in changes:
        name, _, number = change.partition("=")
        numbers = [int(part) for part in number.split(",") if part.isascii() and part.isdigit() and int(part) > 0]
        several = name == "capacities"
        if name not in names or len(numbers) != number.count(",") + 1 or (len(numbers) > 1 and not several):
            rule = f"must be NAME=NUMBER, a positive one, with a name of {', '.join(names)}"
            raise ConfigError(f"counts: {change!r}: {rule}")
        found[name] = tuple(numbers) if several else numbers[0]
    return replace(counts, **found)


@dataclass(frozen=True)
class Images:
    """Some rows of a pack, with what is known about them."""

    pack: Pack
    rows: Int64[np.ndarray, " n"]
    labels: dict[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    """For each binary attribute: 1, 0, or NaN where unknown."""

    def __len__(self) -> int:
        return len(self.rows)

    def tensor(self, count: int | None = None) -> Float[Tensor, "count c h w"]:
        """The first images, in [-1, 1]."""
        return to_tensor(self.pack.fetch(self.rows[:count]))

    def at(self, places: np.ndarray | slice) -> Images:
        """Some of them, by their places here."""
        return Images(self.pack, self.rows[places], {name: values[places] for name, values in self.labels.items()})

    def first(self, count: int) -> Images:
        """The first of them, or all."""
        return self.at(slice(count))

    def having(self, attribute: str, value: int) -> Images:
        """Those of which an attribute is known to be 1, or 0."""
        return self.at(self.labels[attribute] == value)


@dataclass(frozen=True)
class Study:
    """All that tasks work on."""

    model: DiffusionAutoencoder
    run: str
    """As the user named it."""
    train: Images
    """Images the model was trained on."""
    test: Images
    """Images it has never seen."""
    counts: Counts
    out: Path
    """Folder of the report; what is trained for it is kept in its folder `work`."""
    progress: Progress
    features: FeatureNetwork | None = None
    """Gives the vectors of distances between sets of images."""
    perceptual: FeatureNetwork | None = None
    """Gives the distance of one image from another."""
    identity: FeatureNetwork | None = None
    """Gives the vectors whose cosine says whether it is the same person."""
    trained: TrainingConfig = field(default_factory=TrainingConfig)
    """How the model was trained, as far as it is known."""
    ddim: DiffusionAutoencoder | None = None
    """The paper's DDIM baseline: a model without an encoder."""
    others: tuple[Baseline, ...] = ()
    """Other people's autoencoders."""
    capacity: tuple[tuple[str, DiffusionAutoencoder], ...] = ()
    """Models with z_sem of other sizes, by name."""
    foreign: Pack | None = None
    """Images of another kind."""
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    """Of encoding and decoding, where T and the inversion are not what is looked at."""

    # ------------------------------------------------------------------ what is asked for

    def unseen(self, count: int, what: str, least: int = 2) -> Float[Tensor, "n c h w"]:
        """Up to `count` unseen images.

        Raises:
            DataError: fewer than `least`.
        """
        if len(self.test) < least:
            rule = f"{what} needs at least {least}; give more by --unseen, or hold out more in training"
            raise DataError(f"{len(self.test)} unseen images: {rule}")
        return self.test.tensor(count)

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of its own for each purpose, so that tasks can be run in any order."""
        digest = hashlib.sha256(f"{self.seed} {purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def need_features(self) -> FeatureNetwork:
        """The feature network.

        Raises:
            Skipped: none was given.
        """
        if self.features is None:
            raise Skipped("no feature network is given; name one by --features FILE.onnx, or inception")
        return self.features

    def need_labels(self) -> list[str]:
        """Names of the binary attributes.

        Raises:
            Skipped: there are no labels, or no binary ones.
        """
        if not self.test.labels:
            raise Skipped("no binary labels are given; name a table of 0 and 1 by --labels FILE.csv")
        return list(self.test.labels)

    # ------------------------------------------------------------------ what several tasks use, computed once

    @property
    def labelled(self) -> Images:
        """Training images that linear readers are fitted to."""
        return self.train.first(self.counts.labelled)

    @property
    def tested(self) -> Images:
        """Unseen images that they are tested on."""
        return self.test.first(self.counts.tested)

    @property
    def readable(self) -> tuple[list[str], list[str]]:
        """Binary attributes with enough examples of both classes to fit and to test, and those without.

        Raises:
            Skipped: there are no labels.
        """
        names = self.need_labels()
        enough = readable(self.labelled.labels, self.tested.labels)
        return enough, [name for name in names if name not in enough]

    @property
    def explicit(self) -> Sampling:
        """The same with explicit inversion: about five times as fast, and near enough where x_T is not looked at."""
        return replace(self.sampling, inversion="explicit")

    @property
    def work(self) -> Path:
        """Folder for what is trained and encoded on the way; safe to delete."""
        return self.out / "work"

    def encode(self, x: Tensor, sampling: Sampling, what: str, model: DiffusionAutoencoder | None = None) -> Code:
        """Codes of images, with a progress bar."""
        with self.progress(what, len(x)) as done:
            return (model or self.model).encode(x, sampling, progress=done)

    def z_sem(self, images: Images) -> Float[Tensor, "n d"]:
        """z_sem of some images, kept in the folder `work`."""
        with self.progress("encoding z_sem", len(images)) as done:
            return torch.from_numpy(
                np.array(encode_pack(self.model, images.pack, images.rows, self.work, progress=done))
            )

    @cached_property
    def directions(self) -> AttributeDirections:
        """Attribute directions fitted to labelled training images: those alone, so that unseen ones can test them.

        Raises:
            Skipped: no labels.
        """
        self.need_labels()
        fitted = self.labelled
        labels = {name: fitted.labels[name] for name in readable(fitted.labels, fitted.labels)}
        return AttributeDirections().fit(self.z_sem(fitted), labels)

    def training(self, images: int) -> TrainingConfig:
        """How a network is trained for comparison: for so many images, in at least some two hundred steps."""
        return TrainingConfig(
            images=images, batch_size=min(64, -(-images // 200)), learning_rate=1e-3, warmup_images=images // 20,
            save_every=images, validate_every=images, seed=self.seed, precision="float32",
        )  # fmt: skip

    @cached_property
    def baselines(self) -> tuple[Baseline, ...]:
        """PCA, a plain autoencoder and a VAE of this model's code size, and those that were given."""
        size = self.model.config.network.z_sem_channels
        pixels = int(np.prod(self.model.image_shape))
        x = self.train.tensor(min(self.counts.learnt, _MOST_VALUES // pixels))
        config = self.training(self.counts.baseline_images)
        made = [pca(x, size, self.seed)]
        for variational in (False, True):
            name = "vae" if variational else "autoencoder"
            key = repr((self.model.config.network, config, self.train.rows[: len(x)].tolist(), self.train.pack.index))
            key = hashlib.sha256(key.encode()).hexdigest()
            made.append(plain(x, self.model.config.network, config, self.work / name, key, variational=variational))
        return (*made, *self.others)


def steps_of(study: Study) -> Iterator[int]:
    """T of the paper's tables, those that the model's levels allow."""
    return (steps for steps in STEPS if steps <= study.model.config.diffusion.levels)
