"""`diffae reconstruct`: take images apart and put them back together, with numbers."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from diffae.cli.common import (
    RunArgument,
    SamplingOptions,
    keep_inputs,
    open_model,
    output_names,
    progress,
    read_images,
    say,
    tell_residuals,
)

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.plotting import Tile

_SHEET = "reconstructions.png"  # no picture of one image is called so: these end in "-reconstruction.png"
_SHEET_ROWS = 24  # images in it; all are in the table and have a picture of their own


@dataclass(frozen=True)
class Reconstruct:
    """Encode and decode images: pictures of input, reconstruction and error, with PSNR, SSIM and MSE."""

    model: RunArgument
    images: Annotated[tuple[Path, ...], Positional, arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)")]
    """Image files."""
    out: Path
    """Folder for the pictures, reconstructions.png with all of them, and results.csv."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the pictures and print the table."""
        sampling = self.sampling.sampling()
        names = output_names([path.name for path in self.images], "-reconstruction.png")
        pictures = [self.out / name for name in names]
        keep_inputs([*pictures, self.out / _SHEET, self.out / "results.csv"], self.images)
        model = open_model(self.model)
        x = read_images(self.images, model)
        with progress("encoding", len(x)) as done:
            code = model.encode(x, sampling, progress=done)
        y = model.decode(code, sampling=sampling).cpu()
        results = _measure([str(path) for path in self.images], x, y, code.residual, code.calls)
        _write(self.out, pictures, x, y, results)
        _print_table(results)
        say(f"Pictures and results.csv written to {self.out}.")
        tell_residuals(code.residual, sampling)
        return 0


@dataclass(frozen=True)
class Result:
    """A row of results.csv; MSE and SSIM of images in [0, 1]."""

    image: str
    psnr: float
    ssim: float
    mse: float
    residual: float | None
    """Of exact inversion: root mean square, images in [-1, 1]."""
    calls: int | None
    """Network calls spent on x_T."""


def _measure(names: list[str], x: Tensor, y: Tensor, residual: Tensor | None, calls: Tensor | None) -> list[Result]:
    from diffae.data.images import to_unit
    from diffae.evaluation.reconstruction import reconstruction_quality

    quality = reconstruction_quality(to_unit(x), to_unit(y))
    unknown = [None] * len(names)
    columns = (
        quality.psnr.tolist(),
        quality.ssim.tolist(),
        quality.mse.tolist(),
        unknown if residual is None else residual.tolist(),
        unknown if calls is None else calls.tolist(),
    )
    return [Result(*row) for row in zip(names, *columns, strict=True)]


def _write(out: Path, pictures: list[Path], x: Tensor, y: Tensor, results: list[Result]) -> None:
    from diffae.checkpoint import written_beside
    from diffae.plotting import error_tile, save_sheet, sheet, tiles_of

    rows: list[list[Tile]] = []
    for a, b, result in zip(x, y, results, strict=True):
        figures = f"{result.psnr:.1f} dB\nSSIM {result.ssim:.4f}"
        inputs, back = tiles_of(a[None], Path(result.image).name), tiles_of(b[None], f"reconstruction\n{figures}")
        rows.append([*inputs, *back, error_tile(a, b)])
    for path, row in zip(pictures, rows, strict=True):
        save_sheet(path, sheet([row]))
    save_sheet(out / _SHEET, sheet(rows[:_SHEET_ROWS]))
    with written_beside(out / "results.csv") as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(list(Result.__dataclass_fields__))
        table.writerows([list(vars(result).values()) for result in results])


def _print_table(results: list[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    for heading in ("PSNR dB", "SSIM", "MSE", "residual", "calls"):
        table.add_column(heading, justify="right")
    for result in [*results, _mean(results)] if len(results) > 1 else results:
        residual = "–" if result.residual is None else f"{result.residual:.1e}"
        calls = "–" if result.calls is None else str(result.calls)
        table.add_row(result.image, f"{result.psnr:.2f}", f"{result.ssim:.4f}", f"{result.mse:.2e}", residual, calls)
    Console(highlight=False).print(table)


def _mean(results: list[Result]) -> Result:
    """Means of the figures; of the residuals, the largest."""
    count = len(results)
    residuals = [result.residual for result in results if result.residual is not None]
    calls = [result.calls for result in results if result.calls is not None]
    return Result(
        "mean (residual: largest)",
        sum(result.psnr for result in results) / count,
        sum(result.ssim for result in results) / count,
        sum(result.mse for result in results) / count,
        max(residuals) if residuals else None,
        round(sum(calls) / count) if calls else None,
    )
