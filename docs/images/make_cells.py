"""The example of docs/microscopy.md from beginning to end, by its own commands: python make_cells.py WORK

Draws cells, trains on them (some minutes on an idle CPU), fits directions, edits cells that were not trained on, and
measures the edited images with a ruler that knows nothing of the model. Writes cells.png, and cells.json with the
figures, beside this file. What is in WORK already is used again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from diffae.attributes import AttributeDirections
from diffae.autoencoder import DiffusionAutoencoder
from diffae.images import to_samples
from diffae.report import save_sheet, sheet, tiles_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "cells.py"
PIXEL, OFFSET, GAIN = 0.65, 100, 4.0  # of the camera in cells.py
AREAS = (30.0, 50.0, 70.0, 90.0)  # square micrometres, to be reached
MARKERS = (30.0, 60.0, 90.0, 120.0)  # photons per pixel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("work", type=Path, help="folder for cells and the run")
    parser.add_argument("--images", type=int, default=60_000, help="images to see in training")
    options = parser.parse_args()
    work = options.work
    cells, new, run = work / "cells", work / "new", work / "run"
    if not cells.exists():
        call(sys.executable, EXAMPLE, cells)
        call(sys.executable, EXAMPLE, new, "--count", "64", "--seed", "1")
    if not (run / "model.safetensors").exists():
        words = ("--channels", "2", "--window", "percentile", "--images", options.images)
        call(sys.executable, "-m", "diffae", "train", cells, "--out", run, *words)
    call(sys.executable, "-m", "diffae", "fit-attributes", run, "--labels", cells / "labels.csv")
    model = DiffusionAutoencoder.from_pretrained(run)
    attributes = AttributeDirections.load(run, model.fingerprint())
    rows, figures = edited(model, attributes, sorted(new.glob("*.tif")))
    save_sheet(Path(__file__).with_name("cells.png"), sheet(rows))
    scores = {name: asdict(attributes.attributes_[name].score) for name in ("nuclear_area", "marker", "granules")}
    about = {"images seen": json.loads((run / "config.json").read_text())["training"]["images"], "held out": scores}
    Path(__file__).with_name("cells.json").write_text(json.dumps(about | figures, indent=1, default=float) + "\n")


def edited(model: DiffusionAutoencoder, attributes: AttributeDirections, paths: list[Path]) -> tuple[list, dict]:
    """Rows of tiles, and what a ruler measures in the edited images: means over the cells."""
    code = model.encode(paths)
    assert code.z_sem is not None
    back = model.decode(code)
    rows = [tiles_of(back[:9], "decoded")]
    figures: dict[str, list[dict[str, float]]] = {}
    for name, targets in (("nuclear_area", AREAS), ("marker", MARKERS)):
        others = [other for other in ("nuclear_area", "marker") if other != name]
        images = [model.decode(attributes.edit(code, name, target, hold=others)) for target in targets]
        figures[name] = [{"asked": target} | ruler(model, x) for target, x in zip(targets, images, strict=True)]
        for cell in range(2):
            tiles = tiles_of(torch.stack([x[cell] for x in images]), [f"{name} {target:g}" for target in targets])
            rows.append([*tiles_of(back[cell : cell + 1], "before"), *tiles])
    return rows, {"before": ruler(model, back), **figures}


def ruler(model: DiffusionAutoencoder, x: torch.Tensor) -> dict[str, float]:
    """Area of the nucleus, and brightness of the marker in the cell's body, from the camera's counts."""
    photons = (to_samples(x, model.config.input).astype(float) - OFFSET) / GAIN
    nucleus = photons[..., 0] > 55
    body = (photons[..., 1] > 15) & ~nucleus
    area = nucleus.sum(axis=(1, 2)) * PIXEL**2
    marker = np.median([np.median(image[place]) for image, place in zip(photons[..., 1], body, strict=True)])
    return {"nuclear_area": round(float(np.median(area)), 1), "marker": round(float(marker), 1)}


def call(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


if __name__ == "__main__":
    main()
