"""The page of a run, and what is said of a model by how it was trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffae.training.metrics import METRICS, REPORT, last_validation, limits, read_metrics
from diffae.training.report import write_report


def lines(folder: Path, *found: dict[str, float]) -> None:
    (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in found))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as training leaves it after half its length."""
    config = {"diffae": "0", "training": {"images": 1000, "batch_size": 4}, "data": {"preset_images": 100_000}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    losses = [{"step": s, "images": 10 * s, "loss": 1 / s, "images_per_second": 5.0} for s in range(1, 51)]
    validations = [
        {"step": s, "images": 10 * s, "val_loss": 0.5, "val_loss_shuffled": 0.6, "val_mse_semantic": 0.02}
        for s in (25, 50)
    ]
    lines(tmp_path, *losses, *validations)
    (tmp_path / "samples").mkdir()
    for images in (250, 500):
        Image.fromarray(np.full((9, 9, 3), images % 256, np.uint8)).save(tmp_path / "samples" / f"{images:09d}.png")
    return tmp_path


def test_the_page_of_a_run(run: Path) -> None:
    write_report(run)
    page = (run / REPORT).read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "500 of 1,000 images (50%), 5 images/s. About 2 minutes were left" in text
    assert "+20.0% 0.0200" in text
    assert "The model has seen 500 images (0.5% of its preset&#39;s length)" in text
    assert text.index("after 500 images") < text.index("after 250 images")
    assert page.count("data:image/png") == 4  # two curves, two sheets
    assert "training.batch_size 4" in text
    assert 'http-equiv="refresh" content="30"' in page


def test_the_page_of_a_finished_run_is_not_reloaded(run: Path) -> None:
    lines(run, {"step": 100, "images": 1000, "loss": 0.1, "images_per_second": 5.0})
    write_report(run)
    assert "refresh" not in (run / REPORT).read_text(encoding="utf-8")


def test_the_page_of_a_run_that_has_just_begun(run: Path) -> None:
    (run / METRICS).unlink()
    for picture in (run / "samples").iterdir():
        picture.unlink()
    write_report(run)
    assert "0 of 1,000 images." in (run / REPORT).read_text(encoding="utf-8")


def test_odd_lines_of_a_journal_are_left_out(tmp_path: Path) -> None:
    good = {"images": 3, "val_loss": 0.5}
    (tmp_path / METRICS).write_text(f'[]\n5\n{{"images": "many"}}\n{json.dumps(good)}\n{{"images": 4, "val_')
    assert read_metrics(tmp_path) == [good]
    assert last_validation(tmp_path) == good
    assert last_validation(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("seen", "shuffled", "usual", "words"),
    [
        (500, 0.6, 100_000, "not meaningful yet"),
        (500, 0.501, None, "not meaningful yet"),
        (50_000, 0.501, 100_000, "hardly uses z_sem"),
        (50_000, 0.6, 100_000, None),
        (50_000, None, None, None),
    ],
)
def test_what_a_model_cannot_do_yet(seen: int, shuffled: float | None, usual: int | None, words: str | None) -> None:
    metrics = {"images": seen, "val_loss": 0.5} | ({} if shuffled is None else {"val_loss_shuffled": shuffled})
    said = limits(metrics, usual)
    assert re.search(words, said) if words else said == ""
