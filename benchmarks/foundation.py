"""Train `small32` on real faces and measure what the foundation promises; writes a JSON file and prints a table.

    python benchmarks/foundation.py FACES64 --out runs/faces32 [--images 250000] [--threads 1]

FACES64 is a folder with images.zip and labels.csv (columns file, split, Male, Young, Child). Training is on the split
"train" at 32x32; reconstruction is measured on 128 images of "test"; the linear classifiers are fitted on 5,000 images
of "train" and tested on 1,500 of "test". Images are in [0, 1] for MSE and SSIM. A run that exists is measured as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diffae.autoencoder import DiffusionAutoencoder
from diffae.config import Sampling, presets
from diffae.data.build import build_pack
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.evaluation.reconstruction import reconstruction_quality
from diffae.images import to_tensor, to_unit
from diffae.training.autoencoder import train_autoencoder

ATTRIBUTES = ("Male", "Young", "Child")
UNSEEN = 128


def prepare(faces: Path, work: Path) -> tuple[Pack, LabelTable, np.ndarray, np.ndarray]:
    """All images at 32x32, their labels, and the rows of the train and test split."""
    pack = build_pack(faces / "images.zip", work / "packs", size=32, progress=True)
    table = LabelTable.read(faces / "labels.csv").align(pack.names)
    split = table.classes_of("split")
    return pack, table, np.flatnonzero(split == "train"), np.flatnonzero(split == "test")


def train(pack: Pack, rows: np.ndarray, out: Path, arguments: argparse.Namespace) -> None:
    """Train on the train split, with the learning rate of the published baseline's measurement."""
    path = out.parent / f"{out.name}-train.pack"
    names = [pack.names[row] for row in rows]
    train_pack = Pack.open(path) if path.exists() else Pack.from_arrays([pack.fetch(rows)], path, names)
    model, training = presets()["small32"]
    training = dataclasses.replace(training, images=arguments.images, learning_rate=arguments.learning_rate)
    train_autoencoder(train_pack, out, model, training, resume=out.exists())


def reconstruction(model: DiffusionAutoencoder, x_0: torch.Tensor) -> list[dict[str, object]]:
    """MSE and SSIM from (z_sem, x_T) by each way of inversion, and from z_sem alone."""
    rows: list[dict[str, object]] = []
    settings = {f"explicit, trailing, T={steps}": Sampling(steps, inversion="explicit") for steps in (20, 100)} | {
        f"explicit, leading, T={steps}": Sampling(steps, "leading", "explicit") for steps in (20, 100)
    }
    settings |= {f"official, T={steps}": Sampling.official(steps) for steps in (20, 100)} | {"exact, T=20": Sampling()}
    for name, sampling in settings.items():
        code = model.encode(x_0, sampling)
        quality = reconstruction_quality(to_unit(x_0), to_unit(model.decode(code, sampling=sampling)))
        assert code.calls is not None
        calls = float(code.calls.double().mean()) + sampling.steps
        rows.append(
            {"what": name, "calls": calls, "mse": quality.mse.mean().item(), "ssim": quality.ssim.mean().item()}
        )
    z_sem = model.encode_semantic(x_0)
    x = model.decode(z_sem=z_sem, generator=torch.Generator().manual_seed(0))
    quality = reconstruction_quality(to_unit(x_0), to_unit(x))
    rows.append(
        {
            "what": "random x_T, T=20",
            "calls": 20.0,
            "mse": quality.mse.mean().item(),
            "ssim": quality.ssim.mean().item(),
        }
    )
    return rows


def auroc(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> list[float]:
    """Area under the ROC curve of a linear classifier per attribute, its regularisation by cross-validation."""
    areas = []
    for y, y_test in zip(train_y.T, test_y.T, strict=True):
        fit = LogisticRegressionCV(
            Cs=[1e-3, 1e-2, 1e-1], cv=3, scoring="roc_auc", max_iter=500, l1_ratios=(0,), use_legacy_attributes=False
        )
        classifier = make_pipeline(StandardScaler(), fit).fit(train_x, y)
        areas.append(float(roc_auc_score(y_test, classifier.decision_function(test_x))))
    return areas


def classify(
    model: DiffusionAutoencoder, pack: Pack, table: LabelTable, train_rows: np.ndarray, test_rows: np.ndarray
) -> dict[str, list[float]]:
    """AUROC of z_sem and of the pixels at 16x16, for each attribute."""
    labels = np.stack([table.column(name) for name in ATTRIBUTES], axis=1)
    train_rows, test_rows = train_rows[:5000], test_rows[:1500]
    x_train, x_test = (to_tensor(pack.fetch(rows)) for rows in (train_rows, test_rows))
    codes = [model.encode_semantic(x).numpy() for x in (x_train, x_test)]
    pixels = [torch.nn.functional.avg_pool2d(x, 2).flatten(1).numpy() for x in (x_train, x_test)]
    pair = labels[train_rows], labels[test_rows]
    return {name: auroc(a, pair[0], b, pair[1]) for name, (a, b) in {"z_sem": codes, "16x16 pixels": pixels}.items()}


def show(results: dict[str, object]) -> None:
    """Print the tables."""
    console = Console()
    table = Table("reconstruction", "network calls", "MSE", "SSIM")
    for row in results["reconstruction"]:  # type: ignore[union-attr]
        table.add_row(row["what"], f"{row['calls']:.0f}", f"{row['mse']:.2e}", f"{row['ssim']:.4f}")
    console.print(table)
    table = Table("AUROC", *ATTRIBUTES)
    for name, areas in results["auroc"].items():  # type: ignore[union-attr]
        table.add_row(name, *(f"{area:.3f}" for area in areas))
    console.print(table)
    console.print(results["validation"])


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/faces32"))
    parser.add_argument("--images", type=int, default=250_000)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pack, table, train_rows, test_rows = prepare(arguments.faces, arguments.out.parent)
    start = time.time()
    train(pack, train_rows, arguments.out, arguments)
    model = DiffusionAutoencoder.from_pretrained(arguments.out, "cpu")
    lines = [json.loads(line) for line in (arguments.out / "metrics.jsonl").read_text().splitlines()]
    results = {
        "conditions": {
            "machine": platform.processor() or platform.machine(),
            "threads": arguments.threads,
            "torch": torch.__version__,
            "images": arguments.images,
            "learning_rate": arguments.learning_rate,
            "seconds": round(time.time() - start),
        },
        "reconstruction": reconstruction(model, to_tensor(pack.fetch(test_rows[:UNSEEN]))),
        "auroc": classify(model, pack, table, train_rows, test_rows),
        "validation": next(line for line in reversed(lines) if "val_loss" in line),
    }
    show(results)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
