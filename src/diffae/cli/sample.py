"""`diffae sample`: new images, from the latent prior; with examples, of what these show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from diffae.cli.codes import Photos
from diffae.cli.common import (
    RunArgument,
    SamplingOptions,
    images,
    make_folder,
    open_model,
    progress,
    say,
    seeded,
    tell_skipped,
)
from diffae.errors import ConfigError, require
from diffae.presets import PRIOR_STEPS

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from diffae.config import Sampling
    from diffae.model import DiffusionAutoencoder

UNLABELLED = 2048  # codes drawn from the prior, where examples come without others to tell them from
_BATCH = 64
_COLUMNS = (8, 24)  # of a sheet, at least and at most
_optional = arg(help_behavior_hint="(optional)")


@dataclass(frozen=True)
class Sample:
    """Make new images. Needs `diffae train-prior`, unless the model has no encoder."""

    model: RunArgument
    out: Path
    """Picture of all of them (.png, .jpg), or a folder for one file each."""
    count: int = 64
    """Images to make."""
    prior_steps: int = PRIOR_STEPS
    """Solver steps of the prior, 1 to 1000."""
    truncation: float = 1.0
    """0 to 1: smaller draws z_sem nearer to the mean, more typical and less varied."""
    like: Annotated[Path | None, _optional] = None
    """Examples of what is wanted, some tens: a folder, .zip, .npy or .npz."""
    unlike: Annotated[Path | None, _optional] = None
    """Images that are not like them, about as many."""
    unlabelled: Annotated[Path | None, _optional] = None
    """Images that may be like them or not, many. Without either, the prior's own draws are taken."""
    seed: int = 0
    """Of every random number."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the picture, or the files."""
        import torch

        from diffae.plotting import STILL, check_suffix

        if self.out.suffix and not self.out.is_dir():
            check_suffix(self.out, STILL)
        require(self.count >= 1, "count", self.count, "must be at least 1")
        if self.like is None and (self.unlike or self.unlabelled):
            raise ConfigError("unlike or unlabelled is given without like: name examples of what is wanted by --like")
        if self.unlike and self.unlabelled:
            raise ConfigError("unlike and unlabelled are both given: tell the examples from one of them; drop one")
        sampling = self.sampling.sampling()
        model = open_model(self.model)
        generator = seeded(self.seed)
        z_sem = self._codes(model, generator)
        x_T = torch.randn((self.count, *model.image_shape), generator=generator)
        write_samples(self.out, model, decode_all(model, z_sem, x_T, sampling))
        say(f"{images(self.count)} written to {self.out}.")
        return 0

    def _codes(self, model: DiffusionAutoencoder, generator: Generator) -> Tensor | None:
        """z_sem for each image; None for a model without an encoder."""
        if not model.config.network.has_encoder:
            if self.like is not None:
                raise ConfigError("z_sem_channels is 0: this model has no z_sem to compare by; drop --like")
            return None
        how = {"steps": self.prior_steps, "truncation": self.truncation, "generator": generator}
        prior = model.require_prior()
        if self.like is None:
            return prior.sample(self.count, **how)
        from diffae.latent.few_shot import LatentClassifier, sample_like

        like = _encoded(model, self.like)
        others = self.unlike or self.unlabelled
        told_from = prior.sample(UNLABELLED, **how) if others is None else _encoded(model, others)
        classifier = LatentClassifier(prior).fit(like, told_from)
        score = classifier.score_
        say(f"Classifier from {images(len(like))}: AUROC {score.value:.2f} on {score.held_out} left out of it "
            f"(95 % interval {score.low:.2f} to {score.high:.2f}).")  # fmt: skip
        with progress("finding", self.count) as done:
            found = sample_like(prior, classifier, self.count, progress=done, **how)
        say(f"Kept {found.kept:,} of {found.drawn:,} z_sem drawn ({found.kept / found.drawn:.2%}).")
        return found.z_sem


def _encoded(model: DiffusionAutoencoder, path: Path) -> Tensor:
    """z_sem of the images of a folder, archive or array."""
    import torch

    photos = Photos(path, model)
    parts = []
    with progress("encoding", len(photos)) as done:
        for seen, x in photos.batches():
            parts.append(model.encode_semantic(x))
            done(seen)
    tell_skipped(photos.skipped)
    return torch.cat(parts) if parts else torch.zeros(0, model.config.network.z_sem_channels)


def decode_all(model: DiffusionAutoencoder, z_sem: Tensor | None, x_T: Tensor, sampling: Sampling) -> Tensor:
    """Images (n, c, h, w) of these codes, on the CPU, with progress."""
    import torch

    parts = []
    with progress("decoding", len(x_T)) as done:
        for start in range(0, len(x_T), _BATCH):
            rows = slice(start, start + _BATCH)
            given = None if z_sem is None else z_sem[rows]
            parts.append(model.decode(z_sem=given, x_T=x_T[rows], sampling=sampling).cpu())
            done(min(rows.stop, len(x_T)))
    return torch.cat(parts)


def write_samples(out: Path, model: DiffusionAutoencoder, x: Tensor) -> None:
    """One picture of all images, or, where `out` has no suffix, a folder with a file of each."""
    from diffae.data.images import save_image, suffix_for, to_samples
    from diffae.plotting import in_rows, save_sheet, sheet, tiles_of

    if out.suffix and not out.is_dir():
        least, most = _COLUMNS
        save_sheet(out, sheet(in_rows(tiles_of(x), min(max(math.isqrt(len(x)), least), most))))
        return
    make_folder(out)
    given = model.config.input
    suffix = suffix_for(len(x[0]), given.dtype)
    for number, pixels in enumerate(to_samples(x, given)):
        save_image(out / f"sample_{number:05d}{suffix}", pixels)
