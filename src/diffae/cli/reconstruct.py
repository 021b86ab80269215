"""`diffae reconstruct`: encode and decode images, with comparison sheets and numbers.

Exact codes return every image, whatever the model has learnt; so each image is also decoded from z_sem alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import OmitArgPrefixes, Positional, arg

from diffae.cli import common, models
from diffae.cli.options import RunArgument, SamplingOptions
from diffae.cli.terminal import print_table, say
from diffae.console import progress

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.latent.codes import Code

_SHEET = "reconstructions.png"  # pictures of single images end in "-reconstruction.png"
_SHEET_ROWS = 24


class Row(NamedTuple):
    """A row of results.csv."""

    image: str
    psnr: float
    """In dB; like SSIM and MSE for images in [0, 1]."""
    ssim: float
    mse: float
    semantic_ssim: float | None
    """Of the image decoded from z_sem alone, with x_T drawn at random."""
    semantic_mse: float | None
    residual: float | None
    """Of exact inversion: root mean square, images in [-1, 1]."""
    calls: int | None
    """Network calls spent on x_T."""
    first_stage_mse: float | None = None
    """Of the first stage alone: what latents lose of the image."""
    own_mse: float | None = None
    """Of the image against what the first stage alone makes of the original: what the codes lose."""


@dataclass(frozen=True)
class Reconstruct:
    """Encode and decode images, with pictures, PSNR, SSIM and MSE.

    Each image is also decoded from z_sem alone, which shows what z_sem holds.
    """

    model: RunArgument
    images: Annotated[tuple[Path, ...], Positional, arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)")]
    """Image files."""
    out: Path
    """Folder for a picture of each image, reconstructions.png with all of them, and results.csv."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the pictures and print the table."""
        sampling = self.sampling.sampling()
        names = common.output_names([path.name for path in self.images], "-reconstruction.png")
        pictures = [self.out / name for name in names]
        common.check_outputs([*pictures, self.out / _SHEET, self.out / "results.csv"], self.images)
        model = models.open_model(self.model)
        x = models.read_images(self.images, model)
        with progress("encoding", len(x)) as done:
            code = model.encode(x, sampling, progress=done)
        y = model.decode(code, sampling=sampling).cpu()
        own = model.from_latents(model.to_latents(x.to(model.device))).cpu() if model.first_stage else None
        alone = None
        if code.z_sem is not None:
            alone = model.decode(z_sem=code.z_sem, sampling=sampling, generator=models.seeded(0)).cpu()
        rows = _measured([str(path) for path in self.images], x, y, alone, code, own)
        _write(self.out, pictures, x, y, alone, rows)
        _print(rows)
        say(f"Pictures and results.csv written to {self.out}.")
        common.warn_residuals(code.residual, sampling)
        return 0


def _measured(
    names: list[str], x: Tensor, y: Tensor, alone: Tensor | None, code: Code, own: Tensor | None
) -> list[Row]:
    from diffae.data.images import to_unit
    from diffae.evaluation.tasks.reconstruction import reconstruction_quality

    quality = reconstruction_quality(to_unit(x), to_unit(y))
    semantic = None if alone is None else reconstruction_quality(to_unit(x), to_unit(alone))
    from_z_sem = (None, None) if semantic is None else (semantic.ssim, semantic.mse)
    staged = [None, None]
    if own is not None:
        staged = [(to_unit(a) - to_unit(own)).square().mean(dim=(1, 2, 3)) for a in (x, y)]
    columns = (quality.psnr, quality.ssim, quality.mse, *from_z_sem, code.residual, code.calls, *staged)
    values = ([None] * len(names) if column is None else column.tolist() for column in columns)
    return [Row(*row) for row in zip(names, *values, strict=True)]


def _write(out: Path, pictures: list[Path], x: Tensor, y: Tensor, alone: Tensor | None, rows: list[Row]) -> None:
    from diffae.plotting import error_tile, save_sheet, sheet, tiles_of

    tiles = []
    for index, (a, b, row) in enumerate(zip(x, y, rows, strict=True)):
        caption = f"reconstruction\n{row.psnr:.1f} dB\nSSIM {row.ssim:.4f}"
        line = [*tiles_of(a[None], Path(row.image).name), *tiles_of(b[None], caption), error_tile(a, b)]
        if alone is not None:
            line += tiles_of(alone[index][None], f"z_sem alone\nSSIM {row.semantic_ssim:.2f}")
        tiles.append(line)
    for path, line in zip(pictures, tiles, strict=True):
        save_sheet(path, sheet([line]))
    save_sheet(out / _SHEET, sheet(tiles[:_SHEET_ROWS]))
    common.write_csv(out / "results.csv", Row._fields, rows)


def _print(rows: list[Row]) -> None:
    """Print the table, with a last row of means; of the residuals the largest."""
    shown = [*rows, *([_mean(rows)] if len(rows) > 1 else [])]
    staged = rows[0].first_stage_mse is not None
    cells = []
    for row in shown:
        numbers = (f"{row.psnr:.2f}", f"{row.ssim:.4f}", f"{row.mse:.2e}", _shown(row.semantic_ssim, ".4f"))
        ends = (_shown(row.residual, ".1e"), _shown(row.calls, "d"))
        cells.append((row.image, *numbers, *ends, *(_shown(value, ".2e") for value in row[-2:] if staged)))
    header = ("image", "PSNR dB", "SSIM", "MSE", "SSIM from z_sem", "residual", "calls")
    print_table((*header, "first stage's MSE", "codes' MSE") if staged else header, cells)


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _mean(rows: list[Row]) -> Row:
    columns = (
        [value for value in column if value is not None] for column in zip(*(row[1:] for row in rows), strict=True)
    )
    means = dict(
        zip(Row._fields[1:], (sum(column) / len(column) if column else None for column in columns), strict=True)
    )
    residual = max((row.residual for row in rows if row.residual is not None), default=None)
    calls = None if means["calls"] is None else round(means["calls"])
    return Row(**{"image": "mean (residual: largest)", **means, "residual": residual, "calls": calls})
