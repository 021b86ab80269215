"""`diffae interpolate`, `vary` and `denoise-path`: pictures of what the two codes hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import OmitArgPrefixes

from diffae.cli import common, models
from diffae.cli.options import ImageArgument, RunArgument, SamplingOptions, StudentOption, decoding
from diffae.cli.terminal import say
from diffae.errors import require

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.config import Sampling
    from diffae.latent.codes import Code
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Tile

COLUMNS = 10
"""Tiles in a row of a sheet."""

_PATH_TILES = 10
_DEVIATION_GAIN = 4.0  # the map saturates at a standard deviation of 1/4, images in [0, 1]


@dataclass(frozen=True)
class Interpolate:
    """Morph one image into another.

    The path is a straight line in z_sem and a great arc in x_T.
    """

    model: RunArgument
    a: ImageArgument
    b: ImageArgument
    out: Path
    """Picture to write: a strip (.png, .jpg), or an animation (.gif, .webp, .mp4)."""
    frames: int = 9
    """Number of images, both ends included."""
    student: StudentOption = None
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the strip or the animation."""
        from diffae.plotting import ANIMATED, save_animation, tiles_of

        common.check_picture(self.out, self.a, self.b, animated=True)
        sampling = self.sampling.sampling()
        require(self.frames >= 2, "frames", self.frames, "must be at least 2, the two images themselves")
        model = models.open_model(self.model)
        decoded_by = decoding(self.student, sampling)
        models.require_student(model, decoded_by)
        code = model.encode([self.a, self.b], sampling)
        captions = [f"{index / (self.frames - 1):.2f}" for index in range(self.frames)]
        tiles = tiles_of(model.interpolate(code[:1], code[1:], self.frames, decoded_by), captions)
        if self.out.suffix.lower() in ANIMATED:
            save_animation(self.out, tiles)
        else:
            common.write_sheet(self.out, tiles, COLUMNS)
        common.warn_residuals(code.residual, sampling)
        say(f"{self.frames} images from {self.a.name} to {self.b.name} written to {self.out}.")
        return 0


@dataclass(frozen=True)
class Vary:
    """Decode the z_sem of an image with different x_T.

    What stays the same is in z_sem; the mean and the standard deviation show what is left to x_T.
    """

    model: RunArgument
    image: ImageArgument
    out: Path
    """Picture to write."""
    count: int = 8
    """Number of variations."""
    seed: int = 0
    """Seed of x_T."""
    student: StudentOption = None
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the sheet."""
        common.check_picture(self.out, self.image)
        sampling = decoding(self.student, self.sampling.sampling())
        require(self.count >= 2, "count", self.count, "must be at least 2, to have a standard deviation")
        model = models.open_model(self.model)
        x = models.read_images([self.image], model)
        common.write_sheet(self.out, variation_tiles(model, x, self.count, self.seed, sampling), COLUMNS)
        say(f"{self.count} variations of {self.image.name} written to {self.out}.")
        return 0


@dataclass(frozen=True)
class DenoisePath:
    """Show the predicted image at each noise level."""

    model: RunArgument
    image: ImageArgument
    out: Path
    """Picture to write."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the sheet."""
        common.check_picture(self.out, self.image)
        sampling = self.sampling.sampling()
        model = models.open_model(self.model)
        x = models.read_images([self.image], model)
        code = model.encode(x, sampling)
        common.write_sheet(self.out, path_tiles(model, x, code, sampling), _PATH_TILES // 2 + 1)
        common.warn_residuals(code.residual, sampling)
        say(f"The path from x_T to {self.image.name} written to {self.out}.")
        return 0


def variation_tiles(model: DiffusionAutoencoder, x: Tensor, count: int, seed: int, sampling: Sampling) -> list[Tile]:
    """The input (1, c, h, w), variations of it, their mean and standard deviation (paper Fig. 3 and 10)."""
    from diffae.evaluation.tasks.variation import Variation
    from diffae.plotting import heat_tile, tiles_of

    z_sem = model.encode_semantic(x).expand(count, -1)
    variations = model.decode(z_sem=z_sem, sampling=sampling, generator=models.seeded(seed)).cpu()
    found = Variation(variations[None])
    return [
        *tiles_of(x, "input"),
        *tiles_of(variations, [f"x_T {index + 1}" for index in range(count)]),
        *tiles_of(found.mean, "mean"),
        heat_tile(found.deviation[0] * _DEVIATION_GAIN, f"std. deviation ×{_DEVIATION_GAIN:g}"),
    ]


def path_tiles(model: DiffusionAutoencoder, x: Tensor, code: Code, sampling: Sampling) -> list[Tile]:
    """x0_hat at about ten levels from x_T downwards, the decoded image, and the input (paper Fig. 6)."""
    from diffae.plotting import tiles_of

    seen: list[tuple[int, Tensor]] = []
    decoded = model.decode(code, sampling=sampling, callback=lambda t, x0_hat: seen.append((t, x0_hat.cpu())))
    count = min(_PATH_TILES, len(seen))
    chosen = [seen[round(index * (len(seen) - 1) / max(count - 1, 1))] for index in range(count)]
    path = [tile for t, x0_hat in chosen for tile in tiles_of(x0_hat, f"t = {t}")]
    return [*path, *tiles_of(decoded, "decoded"), *tiles_of(x, "input")]
