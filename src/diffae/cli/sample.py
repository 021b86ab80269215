"""`diffae sample`: new images from the latent prior, similar to examples, or compared with training images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from diffae.cli import common, models
from diffae.cli.options import RunArgument, SamplingOptions, StudentOption, TrainingImages, decoding, optional
from diffae.cli.terminal import counted, say
from diffae.config import PRIOR_STEPS
from diffae.console import progress
from diffae.errors import ConfigError, require
from diffae.workers import lead

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from diffae.model import DiffusionAutoencoder

UNLABELLED = 2048
"""z_sem drawn from the prior to tell examples from, when no other images are given."""

_COLUMNS = (8, 24)  # of a sheet, at least and at most


@dataclass(frozen=True)
class Sample:
    """Generate new images, and check them for copies of training images.

    Needs `diffae train-prior`, unless the model has no encoder.
    """

    model: RunArgument
    out: Annotated[Path | None, arg(help_behavior_hint="(required, unless --nearest is given)")] = None
    """One picture of all samples (.png, .jpg), or a folder with a file for each."""
    count: int = 64
    """Number of samples."""
    prior_steps: int = PRIOR_STEPS
    """Solver steps of the prior, 1 to 1000."""
    truncation: float = 1.0
    """0 to 1: smaller values draw z_sem closer to the mean, more typical and less varied."""
    like: Annotated[Path | None, optional] = None
    """Examples of the images wanted, some tens: a folder, .zip, .npy or .npz."""
    unlike: Annotated[Path | None, optional] = None
    """Images unlike them, about as many."""
    unlabelled: Annotated[Path | None, optional] = None
    """Many images that may or may not be like them. Without --unlike and --unlabelled, draws of the prior are used."""
    nearest: Annotated[Path | None, optional] = None
    """Folder for a test whether the samples are copies of training images (paper Appendix C): pictures of the nearest
    ones, and nearest.csv."""
    images: TrainingImages = None
    features: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Network whose features --nearest compares too: an .onnx or TorchScript file, or a known name."""
    seed: int = 0
    """Seed of every random number."""
    student: StudentOption = None
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the picture or the files, and the comparison."""
        self._check()
        model = models.open_model(self.model)
        lead(lambda: self._sample(model), model)
        return 0

    def _sample(self, model: DiffusionAutoencoder) -> None:
        import torch

        from diffae.cli.nearest import open_comparison
        from diffae.latent.codes import Code

        sampling = decoding(self.student, self.sampling.sampling())
        models.require_student(model, sampling)
        generator = models.seeded(self.seed)
        z_sem = self._z_sem(model, generator)
        x_T = torch.randn((self.count, *model.config.latent_shape), generator=generator)
        compare = open_comparison(model, self.images, self.features) if self.nearest else None
        x = torch.cat([*models.decode_all(model, Code(z_sem, x_T), sampling)])
        if self.out:
            _write(self.out, model, x)
            say(f"{counted(self.count)} written to {self.out}.")
        if self.nearest and compare:
            compare(x, self.nearest)

    def _check(self) -> None:
        if self.out is None and self.nearest is None:
            raise ConfigError("out is missing: name a picture or a folder by --out, or a folder by --nearest")
        if self.out and _is_picture(self.out):
            common.check_picture(self.out)
        require(self.count >= 1, "count", self.count, "must be at least 1")
        require(self.nearest is None or self.count >= 2, "count", self.count, "must be at least 2 with --nearest")
        if self.nearest is None and (self.images or self.features):
            raise ConfigError("images or features is given without nearest: name a folder for the test by --nearest")
        if self.like is None and (self.unlike or self.unlabelled):
            raise ConfigError("unlike or unlabelled is given without like: name examples of what is wanted by --like")
        if self.unlike and self.unlabelled:
            raise ConfigError("unlike and unlabelled are both given: tell the examples from one of them; drop one")

    def _z_sem(self, model: DiffusionAutoencoder, generator: Generator) -> Tensor | None:
        """z_sem for each image; None for a model without an encoder."""
        if not model.config.has_encoder:
            if self.like is not None:
                raise ConfigError("z_sem_channels is 0: this model has no z_sem to compare by; drop --like")
            return None
        how = {"steps": self.prior_steps, "truncation": self.truncation, "generator": generator}
        prior = model.require_prior()
        if self.like is None:
            return prior.sample(self.count, **how)
        from diffae.latent.few_shot import LatentClassifier, sample_like

        like, others = _encoded(model, self.like), self.unlike or self.unlabelled
        negatives = prior.sample(UNLABELLED, **how) if others is None else _encoded(model, others)
        classifier = LatentClassifier(prior).fit(like, negatives)
        score = classifier.score_
        say(f"Classifier from {counted(len(like))}: AUROC {score.value:.2f} on {score.held_out} held out "
            f"(95 % interval {score.low:.2f} to {score.high:.2f}).")  # fmt: skip
        with progress("finding", self.count) as done:
            found = sample_like(prior, classifier, self.count, progress=done, **how)
        say(f"Kept {found.kept:,} of {found.drawn:,} z_sem drawn ({found.kept / found.drawn:.2%}).")
        return found.z_sem


def _is_picture(out: Path) -> bool:
    return bool(out.suffix) and not out.is_dir()


def _encoded(model: DiffusionAutoencoder, path: Path) -> Tensor:
    found = models.all_codes(models.encode_photos(model, models.open_photos(path, model), models.SHARD), path)
    common.warn_skipped(found.skipped)
    assert found.code.z_sem is not None
    return found.code.z_sem


def _write(out: Path, model: DiffusionAutoencoder, x: Tensor) -> None:
    """Write one picture of all images, or, if `out` has no suffix, a folder with a file of each."""
    from diffae.plotting import tiles_of

    if _is_picture(out):
        least, most = _COLUMNS
        common.write_sheet(out, tiles_of(x), min(max(math.isqrt(len(x)), least), most))
        return
    common.make_folder(out)
    for number, image in enumerate(x):
        common.write_image(out / f"sample_{number:05d}{common.suffix_of(model, None)}", image[None], model)
