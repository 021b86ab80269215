"""The page of a run, report.html: how far it is, curves, pictures, settings. Each validation writes it anew."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from diffae import checkpoint
from diffae.page import Page
from diffae.plotting import curves
from diffae.training.logger import SAMPLES
from diffae.training.metrics import REPORT, Metrics, gap, limits, read_metrics
from diffae.training.trackers import flat

POINTS = 200
"""Of a curve of the training loss: each is the mean of as many lines as it takes."""

SHEETS = 6
"""Pictures of validations shown, from the first to the last."""


RELOADED = 30
"""Seconds after which a browser reads the page of an unfinished run again."""


def write_report(folder: Path) -> None:
    """Write report.html from the files of a run folder."""
    config, lines = checkpoint.read_config(folder), read_metrics(folder)
    training = config.get("training", {})
    losses = [line for line in lines if "loss" in line]
    validations = [line for line in lines if "val_loss" in line]
    finished = bool(losses) and losses[-1]["images"] >= training["images"]
    lead = _lead(losses, training["images"])
    page = Page(f"Training of {folder.resolve().name}", lead, refresh=None if finished else RELOADED)
    if validations:
        if words := limits(validations[-1], config.get("data", {}).get("preset_images")):
            page.text(f"**{words}**")
        _validations(page, validations)
    _curves(page, losses, validations)
    _pictures(page, folder)
    page.section("Settings")
    page.table(("", ""), list(flat(config)), words=True)
    page.write(folder / REPORT)


def _lead(losses: list[Metrics], total: int) -> str:
    if not losses:
        return f"0 of {total:,} images."
    seen, rate = int(losses[-1]["images"]), losses[-1]["images_per_second"]
    text = f"{seen:,} of {total:,} images ({seen / total:.0%}), {rate:,.3g} images/s."
    left = (total - seen) / max(rate, 1e-9) / 60
    return f"{text} About {left:,.0f} minutes were left when this page was written." if seen < total else text


def _validations(page: Page, validations: list[Metrics]) -> None:
    page.section("Validation")
    rows = []
    for line in validations[-10:]:
        rise, mse = gap(line), line.get("val_mse_semantic")
        cells = ("–" if rise is None else f"{rise:+.1%}", "–" if mse is None else f"{mse:.4f}")
        rows.append((f"{int(line['images']):,}", f"{line['val_loss']:.4f}", *cells))
    page.table(("images", "loss", "with another image's z_sem", "MSE from z_sem alone"), rows)
    page.text("On held-out images. The loss is that of Eq. 6; MSE is of images in [0, 1].", small=True)


def _curves(page: Page, losses: list[Metrics], validations: list[Metrics]) -> None:
    page.section("Curves")
    if len(losses) > 1:
        every = -(-len(losses) // POINTS)
        groups = [losses[i : i + every] for i in range(0, len(losses), every)]
        means = [sum(line["loss"] for line in group) / len(group) for group in groups]
        shown = {"training loss": ([group[-1]["images"] for group in groups], means)}
        page.picture(curves(shown, "images seen", "loss"), "Training loss, with its auxiliary losses.", width=720)
    if len(validations) > 1:
        seen = [line["images"] for line in validations]
        shown = {"right z_sem": (seen, [line["val_loss"] for line in validations])}
        if "val_loss_shuffled" in validations[-1]:
            shown["another image's z_sem"] = (seen, [line["val_loss_shuffled"] for line in validations])
        page.picture(curves(shown, "images seen", "loss"), "Validation: the gap is what z_sem adds.", width=720)


def _pictures(page: Page, folder: Path) -> None:
    sheets = sorted((folder / SAMPLES).glob("*.png"))
    if not sheets:
        return
    page.section("Held-out images")
    last = len(sheets) - 1
    for index in sorted({round(i * last / (SHEETS - 1)) for i in range(SHEETS)}, reverse=True):
        with Image.open(sheets[index]) as image:
            page.picture(image, f"after {int(sheets[index].stem):,} images")
