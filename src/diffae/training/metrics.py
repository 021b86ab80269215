"""What metrics.jsonl says of a run: its lines, the last validation, and what to expect of the model."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

METRICS, REPORT = "metrics.jsonl", "report.html"

UNUSED_GAP = 0.02
"""z_sem counts as unused if shuffling it raises the loss by less than this fraction (see docs/training.md)."""

TOO_EARLY = 20_000
"""Number of images before which a small gap means nothing: z_sem is learnt late."""

EARLY = 0.1
"""Fraction of its preset's length below which a run counts as barely begun."""

_LARGEST = 2**63

Metrics = dict[str, float]


def read_metrics(folder: Path) -> list[Metrics]:
    """The numbers in the lines of a run's metrics.jsonl; lines cut short by a crash are left out."""
    path, lines = folder / METRICS, []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError, AttributeError, RecursionError):
            line = {name: value for name, value in json.loads(text).items() if _is_number(value)}
            if isinstance(line.get("images"), int):
                lines.append(line)
    return lines


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) < _LARGEST


def last_validation(folder: Path, metric: str = "val_loss") -> Metrics:
    """Metrics of a run's last validation, known by `metric`; empty before the first."""
    return next((line for line in reversed(read_metrics(folder)) if metric in line), {})


def gap(metrics: Metrics) -> float | None:
    """By what fraction the loss rises with the z_sem of another image; None without an encoder."""
    shuffled, right = metrics.get("val_loss_shuffled"), metrics["val_loss"]
    return None if shuffled is None or not right else shuffled / right - 1


def z_sem_unused(metrics: Metrics) -> bool:
    """Whether the decoder does as well with another image's z_sem, which means that z_sem is ignored."""
    rise = gap(metrics)
    return rise is not None and rise < UNUSED_GAP


def describe_validation(metrics: Metrics) -> str:
    """Metrics of a validation in words."""
    text = f"loss {metrics['val_loss']:.4f}"
    if (rise := gap(metrics)) is not None:
        text += f" with the right z_sem, {metrics['val_loss_shuffled']:.4f} with another image's ({rise:+.1%})"
    if "val_mse_semantic" in metrics:
        text += f"; MSE of decoding z_sem alone {metrics['val_mse_semantic']:.4f}"
    return text


def limits(metrics: Metrics, usual: int | None) -> str:
    """What the model cannot do yet, in a sentence; empty where nothing is known against it.

    Args:
        metrics: of the last validation.
        usual: images that its preset sees, if it has one.
    """
    seen = int(metrics["images"])
    unused = z_sem_unused(metrics)
    if unused and seen > TOO_EARLY:
        return "The decoder hardly uses z_sem, so edits and samples will show little: see docs/training.md."
    if unused or (usual and seen < EARLY * usual):
        share = f" ({seen / usual:.1%} of its preset's length)" if usual else ""
        return (
            f"The model has seen {seen:,} images{share}. Exact codes return every image even now, but decoding z_sem "
            "alone, edits and samples are not meaningful yet: train longer."
        )
    return ""
