"""An evaluation task: how far does z_sem move when an image is shifted by a few pixels?"""

from __future__ import annotations

from dataclasses import dataclass

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Result, Table
from diffae.evaluation.statistics import mean
from diffae.evaluation.task import Task, count

SHIFTS = (1, 2, 4)


@dataclass(frozen=True)
class Counts:
    """How much is measured; `diffae evaluate --counts shifted=100` changes it."""

    shifted: int = count(quick=16, full=512, of="test")
    """Unseen images."""


def shift(context: EvaluationContext, counts: Counts) -> Result:
    """Distance between z_sem of an image and of the shifted image, relative to that between two images."""
    images = context.unseen(counts.shifted, "shift")
    z_sem = context.model.encode_semantic(images)
    apart = (z_sem - z_sem.roll(1, dims=0)).norm(dim=1).mean()
    rows = []
    for pixels in SHIFTS:
        moved = context.model.encode_semantic(images.roll(pixels, dims=3))
        relative = (moved - z_sem).norm(dim=1) / apart
        rows.append((pixels, mean(relative.cpu().numpy(), context.seed)))
    note = f"{len(images)} unseen images, shifted to the right; 1 is the distance between two different images."
    return Result((Table("distance", "z_sem of shifted images", ("pixels", "distance"), tuple(rows), note),))


TASK = Task("shift", "Shifts", "not in the paper", shift, Counts)
