"""What evaluation tasks work on: the model, its images, and what it is compared with."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import PRIOR_STEPS, Sampling
from diffae.data.feature_cache import encode_pack
from diffae.data.pack import Pack
from diffae.errors import DataError
from diffae.evaluation.baselines import Baseline, pca, plain
from diffae.evaluation.detectors import Backbone
from diffae.evaluation.facts import facts
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.linear_probe import PaperDirections, probeable
from diffae.evaluation.material import Images
from diffae.evaluation.other_systems import NONE, OtherSystems
from diffae.evaluation.protocol import Protocol
from diffae.evaluation.results import Skipped
from diffae.latent.attributes import AttributeDirections
from diffae.latent.prior import LatentPrior
from diffae.model import Code, DiffusionAutoencoder
from diffae.training.settings import TrainingConfig
from diffae.workers import team_size

T = TypeVar("T")

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Starts a progress bar for (description, total); the function it yields takes the number done so far."""

STEPS = (10, 20, 50, 100)
"""T of the paper's tables."""
UNDERTRAINED = ", undertrained"
"""Behind the name of a baseline that saw fewer images than the model."""

_BATCH = 64  # images decoded at once
_BLOCK = 512  # images of a pack in memory at once
_MOST_VALUES = 2**28  # pixels that baselines are fitted to: 1 GiB


@contextmanager
def _silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


@dataclass(frozen=True, eq=False)
class EvaluationContext:
    """Everything a task may use.

    The context records which of its parts (`PARTS`) are read. A task's result is reused by a later evaluation as long
    as the parts it read are the same, so tasks must take everything they need from here: `context.prior`, for instance,
    not `context.model.prior`.
    """

    model: DiffusionAutoencoder
    train: Images
    """Images the model was trained on."""
    test: Images
    """Images it has never seen."""
    out: Path
    """Folder of the report."""
    run: str = "model"
    """The model's name in messages."""
    progress: Progress = _silent
    features: FeatureNetwork | None = None
    """Network for distances between sets of images."""
    perceptual: FeatureNetwork | None = None
    """Network for the distance between two images."""
    identity: FeatureNetwork | None = None
    """Network whose cosine similarity compares faces."""
    backbone: Backbone | None = None
    """Pretrained network of a detector of generated images."""
    trained: TrainingConfig = field(default_factory=TrainingConfig)
    """How the model was trained, as far as known."""
    ddim: DiffusionAutoencoder | None = None
    """The paper's DDIM baseline: a model without an encoder."""
    others: tuple[Baseline, ...] = ()
    """Further autoencoders to compare with."""
    systems: OtherSystems = NONE
    """Images that other systems made."""
    capacity: tuple[tuple[str, DiffusionAutoencoder], ...] = ()
    """Models with other sizes of z_sem, by name."""
    out_of_distribution: Pack | None = None
    """Images of another kind."""
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    """For encoding and decoding, unless a task varies it."""
    protocol: Protocol = "default"
    """Whose choices tasks follow where the paper's differ."""
    attributes: tuple[str, ...] = ()
    """Attributes to edit and to sample; if none are named, tasks take the first ones."""
    reads: set[str] = field(init=False, repr=False, default_factory=set)
    """Names of the parts read so far."""
    _computed: dict[Any, tuple[Any, set[str]]] = field(init=False, repr=False, default_factory=dict)

    # ------------------------------------------------------------------ the record of what is read

    if not TYPE_CHECKING:  # attributes keep their types

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name in PARTS:
                reads = super().__getattribute__("reads")
                reads.add(name)
                if isinstance(value, Images):
                    return replace(value, on_labels=lambda: reads.add("labels"))
            return value

    def recording(self) -> EvaluationContext:
        """The same context with an empty record; values computed once are shared."""
        view = copy.copy(self)
        object.__setattr__(view, "reads", set())
        return view

    def key(self, part: str) -> str:
        """A hash that changes with the content of a part."""
        value = [self.train.labels, self.test.labels] if part == "labels" else getattr(self, part)
        return hashlib.sha256(repr(facts(value)).encode()).hexdigest()[:16]

    def _once(self, name: Any, make: Callable[[EvaluationContext], T]) -> T:
        """A value computed once per evaluation; every task that uses it has read what it was made from."""
        if name not in self._computed:
            view = self.recording()
            self._computed[name] = make(view), view.reads
        value, reads = self._computed[name]
        self.reads.update(reads)
        return value

    # ------------------------------------------------------------------ parts that may be missing

    @property
    def prior(self) -> LatentPrior | None:
        """The model's latent prior, on the model's device."""
        return self.model.prior and self.model.prior.to(self.model.device)

    def need_prior(self) -> LatentPrior:
        """The latent prior; raises `Skipped` if the model has none."""
        if self.prior is None:
            raise Skipped(f"{self.run} has no latent prior; train one with `diffae train-prior {self.run}`")
        return self.prior

    def need_features(self) -> FeatureNetwork:
        """The feature network; raises `Skipped` if none was given."""
        if self.features is None:
            raise Skipped("no feature network is given; name one by --features FILE.onnx, or inception")
        return self.features

    def need_labels(self) -> list[str]:
        """Names of the binary attributes; raises `Skipped` if there are none."""
        if not self.test.labels:
            raise Skipped("no binary labels are given; name a table of 0 and 1 by --labels FILE.csv")
        return list(self.test.labels)

    def unseen(self, count: int, what: str, least: int = 2) -> Float[Tensor, "n c h w"]:
        """Up to `count` unseen images; raises `DataError` if there are fewer than `least`."""
        if len(self.test) < least:
            rule = f"{what} needs at least {least}; give more by --unseen, or hold out more in training"
            raise DataError(f"{len(self.test)} unseen images: {rule}")
        return self.test.tensor(count)

    # ------------------------------------------------------------------ settings

    @property
    def models(self) -> dict[str, DiffusionAutoencoder]:
        """The model and, where given, the DDIM baseline, by the names used in tables."""
        return {"ours": self.model, **({"DDIM": self.ddim} if self.ddim else {})}

    @property
    def steps(self) -> list[int]:
        """T of the paper's tables, as far as the model has that many levels."""
        return [steps for steps in STEPS if steps <= self.model.config.diffusion.levels]

    @property
    def papers(self) -> bool:
        """Whether the paper's protocol is followed."""
        return self.protocol == "paper"

    @property
    def real(self) -> Images:
        """What samples are compared with: unseen images, or by the paper's protocol those of the data set."""
        return self.train if self.papers else self.test

    def at(self, steps: int, model: DiffusionAutoencoder | None = None) -> Sampling:
        """How to decode random x_T at T = `steps`, by the evaluated model or another one.

        As published by the paper's protocol, and for a model that predicts eps: without clipping, the errors of its
        x0_hat at high noise go on into the image.
        """
        eps = (model or self.model).config.diffusion.prediction == "eps"
        return Sampling.official(steps) if self.papers or eps else Sampling(steps)

    def prior_steps(self, steps: int) -> int:
        """T of the prior where the decoder's is `steps`: the same by the paper's protocol."""
        return steps if self.papers else PRIOR_STEPS

    @property
    def explicit(self) -> Sampling:
        """`sampling` with explicit inversion: five times faster, and accurate enough unless x_T itself is studied.

        By the paper's protocol it is `sampling` itself, whose inversion is the published one.
        """
        return self.sampling if self.papers else replace(self.sampling, inversion="explicit")

    @property
    def work(self) -> Path:
        """Folder for networks and codes made on the way; safe to delete."""
        return self.out / "work"

    def generator(self, purpose: str, draw: int = 0) -> torch.Generator:
        """A random generator for one purpose, independent of the order of tasks; `draw` numbers repetitions."""
        digest = hashlib.sha256(f"{self.seed + draw} {purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def training(self, images: int) -> TrainingConfig:
        """Settings for training a small network on `images` images seen, in at least about 200 steps."""
        return TrainingConfig(
            images=images, batch_size=min(64, -(-images // 200)), learning_rate=1e-3, warmup_images=images // 20,
            save_every=images, validate_every=images, seed=self.seed, precision="float32",
        )  # fmt: skip

    # ------------------------------------------------------------------ encoding and decoding

    def encode(self, x: Tensor, sampling: Sampling, what: str, model: DiffusionAutoencoder | None = None) -> Code:
        """Codes of images, by the model or another one, with a progress bar."""
        with self.progress(what, len(x)) as done:
            return (model or self.model).encode(x, sampling, progress=done)

    def reconstruct(self, x: Tensor, what: str) -> Float[Tensor, "n c h w"]:
        """Images encoded by `explicit` inversion and decoded again, clamped to [-1, 1]."""
        code = self.encode(x, self.explicit, what)
        return self.model.decode(code, sampling=self.explicit).cpu().clamp(-1, 1)

    def sample_z_sem(self, count: int, what: str, steps: int = PRIOR_STEPS) -> Float[Tensor, "count d"]:
        """z_sem drawn from the latent prior in `steps` steps; raises `Skipped` if the model has none."""
        return self.need_prior().sample(count, steps=steps, generator=self.generator(f"prior for {what}"))

    def decode(
        self,
        z_sem: Float[Tensor, "n d"] | int,
        steps: int,
        what: str,
        *,
        draw: int = 0,
        model: DiffusionAutoencoder | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """All images of `decoded`, whose arguments it takes."""
        return torch.cat(list(self.decoded(z_sem, steps, what, draw=draw, model=model)))

    def decoded(
        self,
        z_sem: Float[Tensor, "n d"] | int,
        steps: int,
        what: str,
        *,
        draw: int = 0,
        model: DiffusionAutoencoder | None = None,
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """Batches of images from semantic codes and random x_T, clamped to [-1, 1], with a progress bar.

        Args:
            z_sem: the codes; for a model without an encoder, the number of images.
            steps: T.
            what: describes the images, and determines x_T together with `steps` and `draw`.
            draw, model: see `generator`; by default the evaluated model.
        """
        model, generator = model or self.model, self.generator(f"{what} {steps}", draw)
        total = z_sem if isinstance(z_sem, int) else len(z_sem)
        with self.progress(f"{what}, T = {steps}", total) as done:
            batch = _BATCH * team_size()
            for start in range(0, total, batch):
                part = None if isinstance(z_sem, int) else z_sem[start : start + batch]
                x_T = torch.randn((min(batch, total - start), *model.config.latent_shape), generator=generator)
                yield model.decode(z_sem=part, x_T=x_T, sampling=self.at(steps, model)).cpu().clamp(-1, 1)
                done(start + len(x_T))

    def z_sem(self, images: Images) -> Float[Tensor, "n d"]:
        """z_sem of rows of a pack, cached in the folder `work`."""
        with self.progress("encoding z_sem", len(images)) as done:
            found = encode_pack(self.model, images.pack, images.rows, self.work, progress=done)
            return torch.from_numpy(np.array(found))

    def blocks(self, images: Images, what: str) -> Iterator[Float[Tensor, "b c h w"]]:
        """Images in [-1, 1], block by block, where they may not fit into memory; with a progress bar."""
        with self.progress(what, len(images)) as done:
            for start in range(0, len(images), _BLOCK):
                yield images.at(slice(start, start + _BLOCK)).tensor()
                done(min(start + _BLOCK, len(images)))

    # ------------------------------------------------------------------ computed once, used by several tasks

    def probeable(self, labelled: int, tested: int) -> tuple[list[str], list[str]]:
        """Attributes with enough images of both classes among the first training and unseen images, and the others."""
        names = self.need_labels()
        enough = probeable(self.train.first(labelled).labels, self.test.first(tested).labels)
        return enough, [name for name in names if name not in enough]

    def directions(self, labelled: int) -> AttributeDirections:
        """Attribute directions fitted to the first `labelled` training images; raises `Skipped` without labels."""
        self.need_labels()

        def fit(context: EvaluationContext) -> AttributeDirections:
            images = context.train.first(labelled)
            labels = {name: images.labels[name] for name in probeable(images.labels, images.labels)}
            fitted = PaperDirections() if context.papers else AttributeDirections()
            return fitted.fit(context.z_sem(images), labels)

        return self._once(("directions", labelled), fit)

    def baselines(self, learnt: int, images_seen: int) -> tuple[Baseline, ...]:
        """PCA, a plain autoencoder and a VAE with as many dimensions as z_sem, then `others`.

        The autoencoder and the VAE see as many images as the model did, or as many as are allowed; then they are called
        undertrained, and no claim counts them.

        Args:
            learnt: training images they are fitted to.
            images_seen: longest training of the autoencoder and the VAE.
        """

        def fit(context: EvaluationContext) -> tuple[Baseline, ...]:
            settings, images = context.model.config, context.train
            x = images.tensor(min(learnt, _MOST_VALUES // int(np.prod(context.model.image_shape))))
            length = min(images_seen, context.trained.images)
            config, short = context.training(length), length < context.trained.images
            key = repr((settings, config, images.rows[: len(x)].tolist(), images.pack.index))
            key = hashlib.sha256(key.encode()).hexdigest()
            trained = (
                plain(x, settings, config, context.work / name, key, variational=name == "vae")
                for name in ("autoencoder", "vae")
            )
            named = (replace(one, name=f"{one.name}{UNDERTRAINED}") if short else one for one in trained)
            return pca(x, settings.z_sem_channels, context.seed), *named

        return (*self._once(("baselines", learnt, images_seen), fit), *self.others)


_FIELDS = {part.name for part in fields(EvaluationContext) if part.init}
PARTS = _FIELDS - {"out", "run", "progress"} | {"labels", "prior"}
"""Everything a result can depend on besides the task's own counts."""
