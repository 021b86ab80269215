"""`diffae interpolate`, `vary` and `denoise-path`: pictures of what the two codes hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import OmitArgPrefixes

from diffae.cli.common import (
    ImageArgument,
    RunArgument,
    SamplingOptions,
    keep_inputs,
    open_model,
    read_images,
    say,
    seeded,
    tell_residuals,
)
from diffae.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.config import Sampling
    from diffae.model import Code, DiffusionAutoencoder
    from diffae.plotting import Tile

_COLUMNS = 10  # tiles in a row
_PATH_TILES = 10


@dataclass(frozen=True)
class Interpolate:
    """Morph one image into another: a straight line in z_sem, a great arc in x_T."""

    model: RunArgument
    a: ImageArgument
    b: ImageArgument
    out: Path
    """Picture to write: a strip (.png, .jpg), or an animation (.gif, .webp)."""
    frames: int = 9
    """Images, the two ends included."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the strip or the animation."""
        from diffae.plotting import (
            ANIMATED,
            STILL,
            check_suffix,
            in_rows,
            save_animation,
            save_sheet,
            sheet,
            tiles_of,
        )

        check_suffix(self.out, (*STILL, *ANIMATED))
        keep_inputs([self.out], [self.a, self.b])
        sampling = self.sampling.sampling()
        if self.frames < 2:
            raise ConfigError(f"frames is {self.frames}: must be at least 2, the two images themselves")
        model = open_model(self.model)
        code = model.encode([self.a, self.b], sampling)
        captions = [f"{index / (self.frames - 1):.2f}" for index in range(self.frames)]
        tiles = tiles_of(model.interpolate(code[:1], code[1:], self.frames, sampling), captions)
        if self.out.suffix.lower() in ANIMATED:
            save_animation(self.out, tiles)
        else:
            save_sheet(self.out, sheet(in_rows(tiles, _COLUMNS)))
        tell_residuals(code.residual, sampling)
        say(f"{self.frames} images from {self.a.name} to {self.b.name} written to {self.out}.")
        return 0


@dataclass(frozen=True)
class Vary:
    """What z_sem leaves open: images of the same z_sem with different x_T, their mean and standard deviation."""

    model: RunArgument
    image: ImageArgument
    out: Path
    """Picture to write."""
    count: int = 8
    """Variations."""
    seed: int = 0
    """Of the x_T."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the sheet."""
        from diffae.plotting import STILL, check_suffix, in_rows, save_sheet, sheet

        check_suffix(self.out, STILL)
        sampling = self.sampling.sampling()
        if self.count < 2:
            raise ConfigError(f"count is {self.count}: must be at least 2, to have a standard deviation")
        keep_inputs([self.out], [self.image])
        model = open_model(self.model)
        x = read_images([self.image], model)
        tiles = variation_tiles(x, vary(model, x, self.count, self.seed, sampling))
        save_sheet(self.out, sheet(in_rows(tiles, _COLUMNS)))
        say(f"{self.count} variations of {self.image.name} written to {self.out}.")
        return 0


def vary(model: DiffusionAutoencoder, x: Tensor, count: int, seed: int, sampling: Sampling) -> Tensor:
    """Images (count, c, h, w) of the z_sem of one image (1, c, h, w), each with an x_T of its own."""
    z_sem = model.encode_semantic(x).expand(count, -1)
    return model.decode(z_sem=z_sem, sampling=sampling, generator=seeded(seed)).cpu()


def variation_tiles(x: Tensor, variations: Tensor) -> list[Tile]:
    """The input, its variations, their mean and their standard deviation (paper Fig. 3 and 10)."""
    from diffae.evaluation.variation import Variation
    from diffae.plotting import heat_tile, tiles_of

    found = Variation(variations[None])
    return [
        *tiles_of(x, "input"),
        *tiles_of(variations, [f"x_T {index + 1}" for index in range(len(variations))]),
        *tiles_of(found.mean, "mean"),
        heat_tile(found.deviation[0] * _DEVIATION_GAIN, f"std. deviation ×{_DEVIATION_GAIN:g}"),
    ]


_DEVIATION_GAIN = 4.0  # the map is brightest where the standard deviation, images in [0, 1], is a quarter or more


@dataclass(frozen=True)
class DenoisePath:
    """What the decoder believes the image to be at each level, from noise to the image."""

    model: RunArgument
    image: ImageArgument
    out: Path
    """Picture to write."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the sheet."""
        from diffae.plotting import STILL, check_suffix, in_rows, save_sheet, sheet

        check_suffix(self.out, STILL)
        sampling = self.sampling.sampling()
        keep_inputs([self.out], [self.image])
        model = open_model(self.model)
        x = read_images([self.image], model)
        code = model.encode(x, sampling)
        save_sheet(self.out, sheet(in_rows(path_tiles(model, x, code, sampling), _PATH_TILES // 2 + 1)))
        tell_residuals(code.residual, sampling)
        say(f"The path from x_T to {self.image.name} written to {self.out}.")
        return 0


def path_tiles(model: DiffusionAutoencoder, x: Tensor, code: Code, sampling: Sampling) -> list[Tile]:
    """x0_hat at about ten levels on the way from x_T, the image it arrives at, and the input (paper Fig. 6)."""
    from diffae.plotting import tiles_of

    seen: list[tuple[int, Tensor]] = []
    decoded = model.decode(code, sampling=sampling, watch=lambda t, x0_hat: seen.append((t, x0_hat.cpu())))
    count = min(_PATH_TILES, len(seen))
    chosen = [seen[round(index * (len(seen) - 1) / max(count - 1, 1))] for index in range(count)]
    path = [tile for t, x0_hat in chosen for tile in tiles_of(x0_hat, f"t = {t}")]
    return [*path, *tiles_of(decoded, "decoded"), *tiles_of(x, "input")]
