"""The room Training: a run in progress or finished, from its metrics.jsonl and sample sheets."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fastapi import APIRouter, Response

from diffae import checkpoint
from diffae.errors import CheckpointError, DiffaeError
from diffae.studio.engine import Ticket
from diffae.studio.schema import Training
from diffae.studio.sessions import NotKept
from diffae.studio.visits import VisitDep
from diffae.training.metrics import METRICS, last_validation, limits, read_metrics

router = APIRouter(prefix="/api/training", tags=["training"])

SAMPLES = "samples"
_CURVES = ("loss", "val_loss", "val_loss_shuffled", "val_mse_semantic")
_MOST_POINTS = 600  # of a curve


@router.get("", response_model=Training, summary="Curves, time left and sample sheets")
async def training(visit: VisitDep) -> Response:
    """Asked again every few seconds while the run is in progress."""
    return await visit.run(lambda ticket: progress_of(visit.studio.folder))


@router.get("/samples/{name}", summary="A sample sheet, as PNG")
async def sheet(visit: VisitDep, name: str) -> Response:
    """Only names that the list of sheets has."""

    def work(ticket: Ticket) -> Response:
        if name not in sheets(visit.studio.folder):
            raise NotKept("there is no such sample sheet: reload the page")
        return Response((visit.studio.folder / SAMPLES / name).read_bytes(), media_type="image/png")

    return await visit.run(work)


def progress_of(folder: Path) -> Training:
    """What a run folder says about its training.

    Raises:
        CheckpointError: it has no metrics yet.
    """
    lines = read_metrics(folder)
    if not lines:
        raise CheckpointError(f"there is no {METRICS} in the run yet: `diffae train` writes it")
    curves = {name: [(float(line["images"]), float(line[name])) for line in lines if name in line] for name in _CURVES}
    images = int(lines[-1]["images"])
    speed = next((line["images_per_second"] for line in reversed(lines) if "images_per_second" in line), None)
    validation = last_validation(folder)
    total = _total(folder)
    left = (total - images) / speed if total and speed and images < total else None
    return Training(
        curves={name: _thinned(points) for name, points in curves.items() if points},
        images=images,
        total=total,
        images_per_second=speed,
        seconds_left=left,
        samples=sheets(folder),
        note=limits(validation, None) if validation else "",
    )


def sheets(folder: Path) -> list[str]:
    """Names of the sample sheets, oldest first."""
    return sorted(path.name for path in (folder / SAMPLES).glob("*.png"))


def _total(folder: Path) -> int | None:
    with suppress(DiffaeError, KeyError, TypeError, ValueError):
        return int(checkpoint.read_config(folder)["training"]["images"])
    return None


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most so many points that a chart can show, evenly chosen, the last included."""
    step = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:step], points[-1]]
