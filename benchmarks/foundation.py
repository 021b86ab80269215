"""Train `small32` on real faces and measure what the foundation promises; prints tables and writes JSON.

    python benchmarks/foundation.py FACES64 [--out runs/faces32] [--images 250000]

FACES64 is a folder with images.zip and labels.csv (columns file, split, Male, Young, Child). Training is on the split
"train" at 32x32; reconstruction is measured on 128 images of "test"; linear classifiers are fitted on 5,000 images of
"train" and tested on 1,500 of "test". An interrupted run is resumed, a finished one measured as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from faces import ATTRIBUTES, Faces, open_faces
from measuring import auroc, conditions, print_reconstruction, reconstruction
from rich.console import Console
from rich.table import Table

from diffae.model import DiffusionAutoencoder
from diffae.presets import presets
from diffae.training.autoencoder import train_autoencoder

LABELLED, TESTED, RECONSTRUCTED = 5000, 1500, 128


def train(faces: Faces, out: Path, images: int) -> None:
    """Train on the train split, with the preset's settings and fewer validations, which take time."""
    model, training = presets()["small32"]
    training = dataclasses.replace(training, images=images, validate_every=50_000, val_images=128)
    data = {"source": "faces64, split train"}
    train_autoencoder(faces.training_pack(), out, model, training, resume=out.exists(), data=data)


def classify(model: DiffusionAutoencoder, faces: Faces) -> dict[str, dict[str, float]]:
    """AUROC of a linear classifier on z_sem and on the pixels at 16x16, for each attribute."""
    fitted, tested = faces.rows("train")[:LABELLED], faces.rows("test")[:TESTED]
    x, x_tested = faces.images(fitted), faces.images(tested)
    inputs = {
        "z_sem": [model.encode_semantic(x).numpy() for x in (x, x_tested)],
        "16x16 pixels": [torch.nn.functional.avg_pool2d(x, 2).flatten(1).numpy() for x in (x, x_tested)],
    }
    return {
        what: {name: auroc(a, faces.label(name)[fitted], b, faces.label(name)[tested]) for name in ATTRIBUTES}
        for what, (a, b) in inputs.items()
    }


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/faces32"))
    parser.add_argument("--images", type=int, default=250_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    faces = open_faces(arguments.faces, arguments.out.parent / "packs")
    train(faces, arguments.out, arguments.images)
    model = DiffusionAutoencoder.from_pretrained(arguments.out, "cpu")
    lines = [json.loads(line) for line in (arguments.out / "metrics.jsonl").read_text().splitlines()]
    validation = next(line for line in reversed(lines) if "val_loss" in line)
    rows = reconstruction(model, faces.images(faces.rows("test")[:RECONSTRUCTED]))
    areas = classify(model, faces)
    print_reconstruction(rows)
    shown = Table("AUROC", *ATTRIBUTES)
    for what, by_name in areas.items():
        shown.add_row(what, *(f"{area:.3f}" for area in by_name.values()))
    Console().print(shown, validation)
    results = {
        "conditions": conditions(arguments.threads) | {"images": arguments.images, "preset": "small32"},
        "reconstruction": [dataclasses.asdict(row) for row in rows],
        "auroc": areas,
        "validation": validation,
    }
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
