"""The latent prior measured: quality of samples, few labels, ways to train it; prints tables and writes JSON.

    python benchmarks/prior.py quality RUN FACES64 FEATURES [--baseline RUN]
    python benchmarks/prior.py few-shot RUN FACES64 FEATURES
    python benchmarks/prior.py recipes RUN FACES64 FEATURES [--codes 2000000]

RUN is a run folder, with its prior but for recipes; FACES64 is a folder with images.zip and labels.csv (columns file,
split, Male, Child); FEATURES is an .onnx file. Each verb writes its part of prior.json. Speed: prior_speed.py.

quality: Frechet distance of samples to the test split, by number of decoder steps, for the model with its prior; for
the paper's DDIM baseline (--baseline, a run without an encoder); for z_sem of training images in place of the prior's
(the paper's "+ autoencoding", Table 4), with the same random x_T; and for training images as they are.

few-shot: Frechet distance to the real images of a class (splits test and val) of samples made from few labels, binary
(50 + 50) and positive-unlabelled (100 + 10,000), over several seeds, against images that were not chosen (Table 3).

recipes: Frechet distances to the test split of what small priors draw that were trained on as many codes by the paper's
recipe and by another, in normalised z_sem (2,000 draws, in 20 and 100 steps) and of decoded images.

Networks compute in bfloat16 where training would; it moves images by a thousandth of their range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faces import Faces, open_faces
from measuring import conditions
from rich.console import Console
from rich.table import Table
from torch import Tensor

from diffae.config import DiffusionConfig, Sampling
from diffae.data.feature_cache import encode_pack
from diffae.diffusion.settings import Arithmetic
from diffae.evaluation.distances import frechet
from diffae.evaluation.features import FeatureNetwork
from diffae.latent.few_shot import LatentClassifier, sample_like
from diffae.latent.prior import LatentPrior
from diffae.model import DiffusionAutoencoder
from diffae.presets import prior_presets
from diffae.training.prior import train_prior
from diffae.training.settings import TrainingConfig
from diffae.training.trainer import use_bfloat16

CLASSES = {"Male": ("Male", 1), "Female": ("Male", 0), "Child": ("Child", 1)}
RECIPES = {
    "eps, L1, constant (paper)": {"loss": "l1", "diffusion": DiffusionConfig("constant")},
    "v, MSE, cosine": {"loss": "mse", "diffusion": DiffusionConfig("cosine", prediction="v")},
}


# ---------------------------------------------------------------------- quality


def seeded(seed: int) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def arithmetic() -> Arithmetic:
    """What training computes in here, for sampling: bfloat16 is faster where the machine has it."""
    return "bfloat16" if use_bfloat16(TrainingConfig(), torch.device("cpu")) else "float32"


def makers(
    model: DiffusionAutoencoder, baseline: DiffusionAutoencoder | None, x: Tensor, count: int
) -> dict[str, Callable[[int], Tensor]]:
    """What makes images in a number of steps, by name; x are training images."""
    precision = arithmetic()
    z_sem = model.require_prior().sample(count, generator=seeded(0))

    def decoded(decoder: DiffusionAutoencoder, z: Tensor | None, steps: int) -> Tensor:
        x_T = torch.randn((count, *decoder.image_shape), generator=seeded(1))
        return decoder.decode(z_sem=z, x_T=x_T, sampling=Sampling(steps, precision=precision))

    encoded = model.encode_semantic(x)
    ours = {
        "with prior": lambda steps: decoded(model, z_sem, steps),
        "+ autoencoding": lambda steps: decoded(model, encoded, steps),
    }
    return ours if baseline is None else {"DDIM baseline": lambda steps: decoded(baseline, None, steps)} | ours


def quality(arguments: argparse.Namespace) -> dict[str, Any]:
    """Frechet distances to the test split."""
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    baseline = arguments.baseline and DiffusionAutoencoder.from_pretrained(arguments.baseline, "cpu")
    faces, network = open_faces(arguments.faces, arguments.cache), FeatureNetwork.open(arguments.features)
    train_rows = np.random.default_rng(0).permutation(faces.rows("train"))[: arguments.count]
    real = network.vectors(faces.images(faces.rows("test")))
    x = faces.images(train_rows)
    floor = frechet(network.vectors(x), real)
    name = network.frechet_name
    found: dict[str, dict[str, float]] = {}
    for what, make in makers(model, baseline, x, arguments.count).items():
        found[what] = {}
        for steps in arguments.steps:
            found[what][str(steps)] = frechet(network.vectors(make(steps)), real)
            print(f"{what}, {steps} steps: {name} {found[what][str(steps)]:.3f}", flush=True)
    title = f"{name} of {arguments.count} images to {len(real)} of the test split"
    table = Table("images", *(f"T={steps}" for steps in arguments.steps), title=title)
    for what, values in found.items():
        table.add_row(what, *(f"{value:.2f}" for value in values.values()))
    Console(width=120).print(table, f"training images as they are: {floor:.2f}")
    about = {"measure": name, "count": arguments.count, "real": len(real), "precision": arithmetic()}
    return about | {"baseline": baseline and arguments.baseline.name, "distances": found, "training images": floor}


# ---------------------------------------------------------------------- few labels


def examples(faces: Faces, name: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Places in the train split of positives and of what they are told from, for both kinds of few labels."""
    column, wanted = CLASSES[name]
    is_one = faces.label(column)[faces.rows("train")] == wanted
    order = np.random.default_rng(seed).permutation(len(is_one))
    ones, others = order[is_one[order]], order[~is_one[order]]
    return {
        "binary, 50 + 50": (ones[:50], others[:50]),
        "positive-unlabelled, 100 + 10,000": (ones[:100], order[-10_000:]),
    }


def few_shot(arguments: argparse.Namespace) -> dict[str, Any]:
    """Frechet distances to the real images of each class."""
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    prior, count = model.require_prior(), arguments.count
    faces, network = open_faces(arguments.faces, arguments.cache), FeatureNetwork.open(arguments.features)
    train, held = faces.rows("train"), faces.rows("test", "val")
    z_sem = torch.from_numpy(np.array(encode_pack(model, faces.pack, train, arguments.run / "cache")))
    sampling = replace(Sampling.fast(arguments.steps), precision=arithmetic())

    def seen(z: Tensor, seed: int) -> np.ndarray:
        return network.vectors(model.decode(z_sem=z, sampling=sampling, generator=seeded(seed)))

    real = network.vectors(faces.images(held))
    all_real = network.vectors(faces.images(np.random.default_rng(0).permutation(train)[:count]))
    all_made = seen(prior.sample(count, generator=seeded(99)), 99)
    results: dict[str, Any] = {}
    for name, (column, wanted) in CLASSES.items():
        of_class = real[faces.label(column)[held] == wanted]
        naive = {"real": frechet(all_real, of_class), "sampled": frechet(all_made, of_class)}
        results[name] = {"real images": len(of_class), "naive": naive, "few labels": {}}
        print(f"{name}, naive: {naive['real']:.3f} (real images), {naive['sampled']:.3f} (samples)", flush=True)
        for seed in range(arguments.seeds):
            for kind, (like, others) in examples(faces, name, seed).items():
                classifier = LatentClassifier(prior).fit(z_sem[like], z_sem[others])
                found = sample_like(prior, classifier, count, generator=seeded(seed))
                distance = frechet(seen(found.z_sem, seed), of_class)
                entry = results[name]["few labels"].setdefault(kind, {"distances": [], "kept": []})
                entry["distances"].append(distance)
                entry["kept"].append(found.kept / found.drawn)
                print(f"{name}, {kind}, seed {seed}: {distance:.3f}, kept {entry['kept'][-1]:.1%}", flush=True)
    show_few_shot(results, network.frechet_name)
    about = {"measure": network.frechet_name, "count": count, "steps": arguments.steps, "precision": arithmetic()}
    return about | {"classes": results}


def show_few_shot(results: dict[str, Any], measure: str) -> None:
    """Paper Table 3: mean and standard deviation over the seeds, beside the naive distances."""
    table = Table("class", "real images", "naive, real", "naive, sampled", "few labels", measure, "sd", "kept")
    for name, row in results.items():
        naive = (f"{row['naive'][kind]:.2f}" for kind in ("real", "sampled"))
        for kind, entry in row["few labels"].items():
            values = entry["distances"]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            found = (f"{statistics.mean(values):.2f}", f"{spread:.2f}", f"{statistics.mean(entry['kept']):.0%}")
            table.add_row(name, str(row["real images"]), *naive, kind, *found)
            naive = ("", "")
    Console(width=140).print(table)


# ---------------------------------------------------------------------- ways to train


def recipes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Frechet distances of the draws of priors trained alike, by recipe and seed."""
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    faces, network = open_faces(arguments.faces, arguments.cache), FeatureNetwork.open(arguments.features)
    cache, mark = arguments.run / "cache", model.fingerprint()
    codes, val, test = (encode_pack(model, faces.pack, faces.rows(part), cache) for part in ("train", "val", "test"))
    real = network.vectors(faces.images(faces.rows("test")))
    sampling = replace(Sampling.fast(), precision=arithmetic())
    usual, training = prior_presets()["small32"]
    results: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):
        for name, how in RECIPES.items():
            length = replace(training, images=arguments.codes, seed=seed)
            with tempfile.TemporaryDirectory() as folder:
                if not train_prior(folder, mark, codes, val, replace(usual, **how), length):
                    raise KeyboardInterrupt
                prior = LatentPrior.load(folder, mark)
            drawn = {steps: prior.sample(len(test), steps=steps, generator=seeded(seed)) for steps in (20, 100)}
            z_test = prior.normalise(torch.from_numpy(np.array(test))).numpy()
            row = {f"z_norm, {steps} steps": frechet(prior.normalise(z).numpy(), z_test) for steps, z in drawn.items()}
            made = model.decode(z_sem=drawn[100][: arguments.count], sampling=sampling, generator=seeded(seed))
            row[network.frechet_name] = frechet(network.vectors(made), real)
            results.setdefault(name, []).append(row)
            print(name, f"seed {seed}:", ", ".join(f"{what} {value:.3f}" for what, value in row.items()), flush=True)
    measures = list(next(iter(results.values()))[0])
    table = Table("prior", *measures, title=f"{arguments.codes:,} codes seen, mean of {arguments.seeds} seeds")
    for name, found in results.items():
        table.add_row(name, *(f"{statistics.mean(row[what] for row in found):.2f}" for what in measures))
    Console(width=120).print(table)
    return {"codes": arguments.codes, "count": arguments.count, "recipes": results}


# ---------------------------------------------------------------------- command line


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, count in (("quality", 2000), ("few-shot", 1000), ("recipes", 1000)):
        added = verbs.add_parser(verb)
        for argument in ("run", "faces", "features"):
            added.add_argument(argument, type=Path)
        added.add_argument("--count", type=int, default=count)
        added.add_argument("--cache", type=Path, default=Path("runs/packs"))
        if verb == "quality":
            added.add_argument("--baseline", type=Path)
            added.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50, 100])
        elif verb == "few-shot":
            added.add_argument("--steps", type=int, default=10, help="of Sampling.fast")
            added.add_argument("--seeds", type=int, default=3)
        else:
            added.add_argument("--codes", type=int, default=2_000_000)
            added.add_argument("--seeds", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure, print, and put the results into the JSON file."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    found = {"quality": quality, "few-shot": few_shot, "recipes": recipes}[arguments.verb](arguments)
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    results[arguments.verb] = {"conditions": conditions(arguments.threads), "run": arguments.run.name, **found}
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
