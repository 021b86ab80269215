"""The default recipe against the paper's, and without each of its parts: the same faces, the same images seen.

    python benchmarks/recipe.py FACES64 FEATURES.onnx [--images 25000,50000,100000,250000] [--seeds 0,1]
    python benchmarks/recipe.py FACES64 FEATURES.onnx --images 25000 --runs all --json benchmarks/recipe_parts.json
    python benchmarks/recipe.py FACES64 FEATURES.onnx --measure-only --out KEPT --json benchmarks/recipe.json

FACES64 is a folder with images.zip and labels.csv (columns file, split, Male, Young, Child, age), FEATURES.onnx a
network whose features make the Frechet and the perceptual distance. Every kind of run and seed is a run folder below
--out, trained on the split "train" to each length in turn (a run is resumed, a length already measured is not measured
again), so that the results are learning curves; between them stand the validations of training. Linear readings of
z_sem are fitted on 5,000 images of "train", and on all; so are those of 16x16 pixels and of FEATURES, beside them, and
those of FEATURES to which all 64x64 pixels of the photographs are shown.
Everything is measured on --split, which is "val" while something is still to be chosen and "test" for what is
published. --measure-only trains nothing: it measures the run folders below --out as they are.

Every run is decoded by both samplers (`SAMPLERS`), and each figure says by which. That of the published code clips
x0_hat to [-1, 1] in every step; a network that predicts eps needs it, so a comparison of recipes takes the paper's by
the published sampler and the default by the default one.

The paper's recipe is given a learning rate of 3e-4, batches of 64 and an average that warms up: with Table 5's 1e-4 and
an average that does not, runs so short keep most of their random start.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from faces import ATTRIBUTES, Faces, open_faces
from measuring import auroc, conditions, r2, train_small_prior
from rich.console import Console
from rich.table import Table
from torch import Tensor
from train_speed import our_step, timed

from diffae import checkpoint
from diffae.config import ModelConfig, Sampling
from diffae.data.feature_cache import vectors_file
from diffae.data.images import to_unit
from diffae.evaluation.distances import frechet
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.tasks.reconstruction import reconstruction_quality
from diffae.latent.prior import PRIOR
from diffae.model import DiffusionAutoencoder
from diffae.presets import Recipe, presets
from diffae.training.autoencoder import train_autoencoder
from diffae.training.settings import ContrastiveConfig, DistillationConfig, HOGConfig, TrainingConfig

RUNS: dict[str, tuple[Recipe, dict[str, Any]]] = {
    "paper": ("paper", {}),
    "default": ("default", {}),
    "default, distilling FEATURES": ("default", {"distillation": 0.3}),
    "default, averaged features": ("default", {"pooling": "average"}),
    "default, upsampling first": ("default", {"upsampling": "first"}),
    "default, upsampling first, no HOG": ("default", {"upsampling": "first", "hog": 0.0}),
    "default, no map of z_sem": ("default", {"z_map_channels": 0}),
    "default, no contrastive loss": ("default", {"contrastive": 0.0}),
    "default, no HOG": ("default", {"hog": 0.0}),
    "default, Adam": ("default", {"optimizer": "adam"}),
    "default, levels drawn evenly": ("default", {"level_sampling": "uniform"}),
    "default, batches of 64": ("default", {"batch_size": 64}),
    "default, learning rate 3e-4": ("default", {"learning_rate": 3e-4}),
    "default, predicting eps": ("default", {"prediction": "eps"}),
}
"""What is compared: a recipe, and the settings that differ from it."""
SAMPLERS = {"published sampler": Sampling.official(20), "default sampler": Sampling(20)}
"""Both take 20 network calls to decode."""
LABELLED = (5000, 20_000)


def settings(run: str, images: int, seed: int) -> tuple[ModelConfig, TrainingConfig]:
    """small32 as in RUNS, with a validation at every 50,000 images."""
    recipe, changes = RUNS[run]
    model, training = presets(recipe)["small32"]
    parts = {name: _changed(getattr(model, name), changes) for name in ("decoder", "encoder", "diffusion")}
    for loss in (ContrastiveConfig, HOGConfig, DistillationConfig):
        if loss.kind in changes:
            training = training.with_loss(loss, changes[loss.kind])
    length = {"images": images, "seed": seed, "validate_every": 50_000, "val_images": 128, "ema_warmup": True}
    return dataclasses.replace(model, **parts), dataclasses.replace(_changed(training, changes), **length)


def _changed(settings: Any, changes: dict[str, Any]) -> Any:
    mine = {name: value for name, value in changes.items() if hasattr(settings, name)}
    return dataclasses.replace(settings, **mine)


def readings(represent: Callable[[Tensor], Tensor | np.ndarray], faces: Faces, split: str) -> dict[str, float]:
    """How much a linear function of a representation knows of the labels: AUROC of the attributes, R2 of the age."""
    fitted, tested = faces.rows("train"), faces.rows(split)
    x, x_tested = (np.asarray(represent(faces.images(rows))) for rows in (fitted, tested))
    found = {}
    for labelled in LABELLED:
        for name in ATTRIBUTES:
            y, y_tested = faces.label(name)[fitted[:labelled]], faces.label(name)[tested]
            found[f"{name}, {labelled} labels"] = auroc(x[:labelled], y, x_tested, y_tested)
        age, age_tested = faces.label("age")[fitted[:labelled]], faces.label("age")[tested]
        found[f"age R2, {labelled} labels"] = r2(x[:labelled], age, x_tested, age_tested)
    return found


def pixels(x_0: Tensor) -> Tensor:
    """An image as 16x16 pixels."""
    return F.adaptive_avg_pool2d(x_0, 16).flatten(1)


def decodings(
    model: DiffusionAutoencoder, faces: Faces, arguments: argparse.Namespace, features: FeatureNetwork
) -> dict[str, float]:
    """What z_sem alone, with random x_T, brings back of unseen images; and what (z_sem, x_T) does; by both samplers."""
    x_0, inverted = faces.images(faces.rows(arguments.split)[: arguments.measured]), arguments.inverted
    z_sem, real, found = model.encode_semantic(x_0), features.vectors(x_0), {}
    for name, sampling in SAMPLERS.items():
        generator = torch.Generator().manual_seed(0)
        x = model.decode(z_sem=z_sem, sampling=sampling, generator=generator).clamp(-1, 1)
        code = model.encode(x_0[:inverted], sampling)
        assert code.x_T is not None
        back = model.decode(code, sampling=sampling).clamp(-1, 1)
        x_T = code.x_T.double()
        found |= {
            f"MSE from z_sem, {name}": (to_unit(x) - to_unit(x_0)).square().mean().item(),
            f"{features.name} distance, {name}": float(features.distance(x_0, x).mean()),
            f"FD-{features.name}, {name}": frechet(features.vectors(x), real),
            f"MSE from z_sem and x_T, {name}": _mse(x_0[:inverted], back),
            f"x_T std, {name}": x_T.std().item(),
            f"x_T kurtosis, {name}": (((x_T - x_T.mean()) / x_T.std()) ** 4).mean().item() - 3,
        }
    return found


def _mse(x: Tensor, y: Tensor) -> float:
    return reconstruction_quality(to_unit(x), to_unit(y)).mse.double().mean().item()


def generated(folder: Path, faces: Faces, arguments: argparse.Namespace, features: FeatureNetwork) -> dict[str, float]:
    """What a latent prior, trained on the z_sem of the training images, draws: as many images as are measured."""
    pack = faces.training_pack()
    (folder / PRIOR).unlink(missing_ok=True)  # that of a shorter run
    if not train_small_prior(folder, pack):
        raise KeyboardInterrupt  # half a prior is not measured
    return sampled(DiffusionAutoencoder.from_pretrained(folder, "cpu"), faces, arguments, features)


def sampled(
    model: DiffusionAutoencoder, faces: Faces, arguments: argparse.Namespace, features: FeatureNetwork
) -> dict[str, float]:
    """Frechet distance of a model's samples by both samplers; nothing without a prior."""
    count, found = arguments.measured, {}
    real = features.vectors(faces.images(faces.rows(arguments.split)[:count]))
    for name, sampling in SAMPLERS.items() if model.prior else ():
        drawn = model.sample(count, sampling=sampling, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        found[f"FD-{features.name} of samples, {name}"] = frechet(features.vectors(drawn), real)
    return found


def seconds_per_image(runs: list[str], rounds: int = 24) -> dict[str, float]:
    """Of training, by all kinds of run in turn, so that whatever else the machine does falls on all; medians."""
    with tempfile.TemporaryDirectory() as folder:
        steps: dict[str, Callable[[], None]] = {}
        batches: dict[str, int] = {}
        times: dict[str, list[float]] = {run: [] for run in runs}
        for number, run in enumerate(runs):
            model, training = settings(run, 250_000, 0)
            path = Path(folder) / str(number)
            path.mkdir()
            steps[run], batches[run] = our_step(model, training, path)[0], training.batch_size
        for _ in range(rounds):
            for run in runs:
                repeats = 64 // batches[run]
                times[run].append(sum(timed(steps[run]) for _ in range(repeats)) / (repeats * batches[run]))
    return {run: statistics.median(values[2:]) for run, values in times.items()}  # the first two warm up


def folder_of(run: str, seed: int, out: Path) -> Path:
    """Where a run is trained."""
    return out / f"{run.replace(', ', '-').replace(' ', '-')}-{seed}"


def validations(folder: Path) -> list[dict[str, float]]:
    """Eq. 6 on held-out images, with right and with shuffled z_sem, and MSE from z_sem alone, by images seen.

    The last is left out where the network predicts eps: training decodes without clipping, which such a network needs.
    """
    left_out = {"step"}
    if checkpoint.read_config(folder)["model"]["diffusion"]["prediction"] == "eps":
        left_out.add("val_mse_semantic")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [line for line in lines if "val_loss" in line]
    return [{name: value for name, value in line.items() if name not in left_out} for line in kept]


def curve(run: str, seed: int, arguments: argparse.Namespace, faces: Faces, features: FeatureNetwork) -> list:
    """Train to each length in turn, and measure there."""
    folder = folder_of(run, seed, arguments.out)
    measured = folder / f"measured-{arguments.split}.json"
    rows: list[dict[str, Any]] = json.loads(measured.read_text()) if measured.exists() else []
    for images in map(int, arguments.images.split(",")):
        if any(row["images"] == images for row in rows):
            continue
        model, training = settings(run, images, seed)
        data = {"source": "faces64, split train", "recipe": RUNS[run][0], "preset": "small32"}
        pack = faces.training_pack()
        targets = vectors_file(pack, features) if training.distils else None
        if not train_autoencoder(pack, folder, model, training, features=targets, resume=folder.exists(), data=data):
            raise KeyboardInterrupt  # a length that was not reached is not measured
        trained = DiffusionAutoencoder.from_pretrained(folder, "cpu")
        figures = readings(trained.encode_semantic, faces, arguments.split)
        figures |= decodings(trained, faces, arguments, features)
        if arguments.prior:
            figures |= generated(folder, faces, arguments, features)
        rows.append({"run": run, "seed": seed, "images": images} | figures)
        measured.write_text(json.dumps(rows, indent=2) + "\n")
    return rows


def kept(run: str, seed: int, arguments: argparse.Namespace, faces: Faces, features: FeatureNetwork) -> list:
    """Measure a run folder as it is, by both samplers, without training anything; nothing if there is none."""
    folder = folder_of(run, seed, arguments.out)
    if not folder.is_dir():
        return []
    model = DiffusionAutoencoder.from_pretrained(folder, "cpu")
    figures = readings(model.encode_semantic, faces, arguments.split)
    figures |= decodings(model, faces, arguments, features)
    figures |= sampled(model, faces, arguments, features)
    images = checkpoint.read_config(folder)["training"]["images"]
    return [{"run": run, "seed": seed, "images": images} | figures]


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The figures as a table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*names)
    for row in rows:
        cells = (row.get(name, "") for name in names)
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in cells))
    Console(width=200).print(table)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--images", default="25000,50000,100000,250000")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--runs", choices=("two", "all"), default="two", help="the recipes alone, or all of RUNS")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--measured", type=int, default=2000, help="images decoded from z_sem, and samples")
    parser.add_argument("--inverted", type=int, default=128, help="images decoded from z_sem and x_T")
    parser.add_argument("--measure-only", action="store_true", help="measure the run folders as they are")
    parser.add_argument("--no-prior", dest="prior", action="store_false", help="train no latent prior to sample from")
    return parser.parse_args()


def main() -> None:
    """Train, measure, print, write."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    packs = arguments.out.parent / "packs"
    faces = open_faces(arguments.faces, packs)
    features = FeatureNetwork.open(arguments.features)
    runs = list(RUNS) if arguments.runs == "all" else ["paper", "default"]
    pairs = [(run, int(seed)) for seed in arguments.seeds.split(",") for run in runs]
    make = kept if arguments.measure_only else curve
    rows = [row for run, seed in pairs for row in make(run, seed, arguments, faces, features)]
    if not rows:
        raise SystemExit(f"{arguments.out} holds no run folder of {', '.join(runs)}: leave --measure-only out to train")
    pairs = list(dict.fromkeys((row["run"], row["seed"]) for row in rows))
    print_rows(rows)
    sizes = {"split": arguments.split, "measured": arguments.measured, "inverted": arguments.inverted}
    results = {"conditions": conditions(arguments.threads), **sizes, "runs": rows}
    whole = open_faces(arguments.faces, packs, size=64)
    others = {"16x16 pixels": (pixels, faces), features.name: (features.vectors, faces)}
    others[f"{features.name}, 64x64"] = features.vectors, whole
    results["others"] = {name: readings(what, of, arguments.split) for name, (what, of) in others.items()}
    results["validations"] = {
        f"{run}, seed {seed}": validations(folder_of(run, seed, arguments.out)) for run, seed in pairs
    }
    if not arguments.measure_only:
        results["seconds_per_image"] = seconds_per_image(runs)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
