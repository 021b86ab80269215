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

import numpy as np
import torch
from measuring import auroc, conditions, print_reconstruction, reconstruction
from rich.console import Console
from rich.table import Table

from diffae.autoencoder import DiffusionAutoencoder
from diffae.config import presets
from diffae.data.build import build_pack
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.images import to_tensor
from diffae.training.autoencoder import train_autoencoder

ATTRIBUTES = ("Male", "Young", "Child")
LABELLED, TESTED, RECONSTRUCTED = 5000, 1500, 128


def train(pack: Pack, rows: np.ndarray, out: Path, images: int) -> None:
    """Train on the train split, with the preset's settings."""
    path = out.with_name(f"{out.name}-train.pack")
    names = [pack.names[int(row)] for row in rows]
    train_pack = Pack.open(path) if path.exists() else Pack.from_arrays([pack.fetch(rows)], path, names)
    model, training = presets()["small32"]
    training = dataclasses.replace(training, images=images)
    train_autoencoder(train_pack, out, model, training, resume=out.exists(), data={"source": "faces64, split train"})


def classify(
    model: DiffusionAutoencoder, pack: Pack, labels: np.ndarray, train_rows: np.ndarray, test_rows: np.ndarray
) -> dict[str, dict[str, float]]:
    """AUROC of a linear classifier on z_sem and on the pixels at 16x16, for each attribute."""
    x_train, x_test = (to_tensor(pack.fetch(rows)) for rows in (train_rows, test_rows))
    inputs = {
        "z_sem": [model.encode_semantic(x).numpy() for x in (x_train, x_test)],
        "16x16 pixels": [torch.nn.functional.avg_pool2d(x, 2).flatten(1).numpy() for x in (x_train, x_test)],
    }
    return {
        what: {
            name: auroc(a, labels[train_rows, column], b, labels[test_rows, column])
            for column, name in enumerate(ATTRIBUTES)
        }
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
    pack = build_pack(arguments.faces / "images.zip", arguments.out.parent / "packs", size=32)
    table = LabelTable.read(arguments.faces / "labels.csv")
    values = table.align(pack.names)
    split = values[:, table.columns.index("split")]
    train_rows, test_rows = (np.flatnonzero(split == table.classes["split"].index(s)) for s in ("train", "test"))
    labels = values[:, [table.columns.index(name) for name in ATTRIBUTES]]
    train(pack, train_rows, arguments.out, arguments.images)
    model = DiffusionAutoencoder.from_pretrained(arguments.out, "cpu")
    lines = [json.loads(line) for line in (arguments.out / "metrics.jsonl").read_text().splitlines()]
    validation = next(line for line in reversed(lines) if "val_loss" in line)
    rows = reconstruction(model, to_tensor(pack.fetch(test_rows[:RECONSTRUCTED])))
    areas = classify(model, pack, labels, train_rows[:LABELLED], test_rows[:TESTED])
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
