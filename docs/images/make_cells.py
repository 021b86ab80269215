"""Run the example of docs/microscopy.md from start to end: python make_cells.py WORK

Draws cells, trains on them (some minutes on an idle CPU), fits directions, and edits unseen cells. The edited cells are
measured without the model; so are the recorded ones, whose truth is known, to check the measurement. Writes cells.png
and cells.json beside this file. Files that exist in WORK are reused.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from diffae.checkpoint import read_config
from diffae.cli.common import images_seen
from diffae.config import from_dict
from diffae.data.images import as_batch, load_image, to_samples
from diffae.latent.attributes import AttributeDirections
from diffae.model import DiffusionAutoencoder
from diffae.plotting import save_sheet, sheet, tiles_of
from diffae.training.settings import TrainingConfig

EXAMPLE = Path(__file__).parents[1] / "examples" / "cells.py"
PIXEL, OFFSET, GAIN = 0.65, 100, 4.0  # of the camera in cells.py
AREAS = (20.0, 30.0, 40.0, 50.0, 60.0)  # square micrometres, to be reached; the cells have 14 to 65
MARKERS = (30.0, 50.0, 70.0, 90.0, 110.0)  # photons per pixel; the cells have 15 to 120
SHOWN = len(AREAS) + 1  # cells side by side


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the example of docs/microscopy.md.")
    parser.add_argument("work", type=Path, help="folder for cells and the run")
    parser.add_argument("--images", type=int, default=20_000, help="length of training: images seen")
    options = parser.parse_args()
    work = options.work
    cells, new, run = work / "cells", work / "new", work / "run"
    if not cells.exists():
        call(sys.executable, EXAMPLE, cells)
        call(sys.executable, EXAMPLE, new, "--count", "32", "--seed", "1")
    if not (run / "model.safetensors").exists():
        words = ("--channels", "2", "--window", "percentile", "--contrastive", 0, "--images", options.images)
        call(sys.executable, "-m", "diffae", "train", cells, "--out", run, *words)
    call(sys.executable, "-m", "diffae", "attributes", "fit", run, "--labels", cells / "labels.csv")
    model = DiffusionAutoencoder.from_pretrained(run)
    attributes = AttributeDirections.load(run, model.fingerprint())
    rows, figures = edited(model, attributes, sorted(new.glob("*.tif")))
    save_sheet(Path(__file__).with_name("cells.png"), sheet(rows))
    training = from_dict(TrainingConfig, read_config(run)["training"])
    about: dict[str, object] = {"batch_size": training.batch_size, "learning_rate": training.learning_rate}
    about |= {"auxiliary losses": [type(loss).__name__ for loss in training.auxiliary_losses]}
    about |= {"images seen": images_seen(run), "cells edited": len(list(new.glob("*.tif")))}
    scores = {name: asdict(attributes.attributes_[name].score) for name in ("nuclear_area", "marker", "granules")}
    results = {"training": about, "held out": scores, "error of the ruler": measurement_error(new)} | figures
    Path(__file__).with_name("cells.json").write_text(json.dumps(results, indent=1, default=float) + "\n")


def edited(model: DiffusionAutoencoder, attributes: AttributeDirections, paths: list[Path]) -> tuple[list, dict]:
    """Rows of tiles, and the measurements of the edited images: medians over the cells."""
    code = model.encode(paths)
    assert code.z_sem is not None
    back = model.decode(code)
    given = as_batch(paths[:SHOWN], *model.image_shape[1::-1], window=model.config.input.window)
    rows = [tiles_of(given, "recorded"), tiles_of(back[:SHOWN], "decoded")]
    figures: dict[str, list[dict[str, float]]] = {}
    for name, targets, unit in (("nuclear_area", AREAS, " µm²"), ("marker", MARKERS, "")):
        others = [other for other in ("nuclear_area", "marker") if other != name]
        images = [model.decode(attributes.edit(code, name, target, hold=others)) for target in targets]
        figures[name] = [{"asked": target} | measured(model, x) for target, x in zip(targets, images, strict=True)]
        for cell in range(2):
            captions = [f"{name.removeprefix('nuclear_')} {target:g}{unit}" for target in targets]
            tiles = tiles_of(torch.stack([x[cell] for x in images]), captions)
            rows.append([*tiles_of(back[cell : cell + 1], "before"), *tiles])
    return rows, {"before": measured(model, back), **figures}


def measured(model: DiffusionAutoencoder, x: torch.Tensor) -> dict[str, float]:
    """Median area of the nucleus and brightness of the marker in images in [-1, 1]."""
    found = np.median([measure(image) for image in to_samples(x, model.config.input)], axis=0)
    return {"nuclear_area": round(found[0], 1), "marker": round(found[1], 1)}


def measure(counts: np.ndarray) -> tuple[float, float]:
    """Area of the nucleus (square micrometres) and brightness of the marker (photons per pixel) in a camera's image.

    The nucleus is where channel 1 has half its usual light; the marker is the upper quartile of the rest of the cell,
    since the blurred margin of the cell is darker.
    """
    photons = (counts.astype(float) - OFFSET) / GAIN
    nucleus = photons[..., 0] > 45
    body = (photons[..., 1] > 15) & ~nucleus
    return nucleus.sum() * PIXEL**2, float(np.percentile(photons[..., 1][body], 75))


def measurement_error(folder: Path) -> dict[str, float]:
    """Median absolute error of the measurement in recorded cells."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [measure(load_image(folder / row["file"], 2)) for row in rows]
    truth = [[float(row["nuclear_area"]), float(row["marker"])] for row in rows]
    area, marker = np.median(np.abs(np.array(found) - truth), axis=0)
    return {"nuclear_area": round(area, 1), "marker": round(marker, 1)}


def call(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


if __name__ == "__main__":
    main()
