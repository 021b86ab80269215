"""The latent prior measured: speed of training, quality of samples, few labels; prints tables and writes JSON.

    python benchmarks/prior.py speed RUN IMAGES
    python benchmarks/prior.py quality RUN FACES64 FEATURES [--baseline RUN]
    python benchmarks/prior.py few-shot RUN FACES64 FEATURES

RUN is a run folder (with its prior, but for speed); IMAGES is the pack it was trained on; FACES64 is a folder with
images.zip and labels.csv (columns file, split, Male, Child); FEATURES is an .onnx file. Each verb writes its part of
prior.json.

speed: codes per second of the training loop, against the same network and optimiser in a plain loop that draws each
batch through a data loader, of z_sem that are kept in memory, and of images that are encoded as they come. Steps
alternate; the ratios are of medians.

quality: Frechet distance of samples to the test split, by number of decoder steps, for the model with its prior; for
the paper's DDIM baseline (--baseline, a run without an encoder); for z_sem of training images in place of the prior's;
for training images encoded and decoded (the paper's "+ autoencoding", Table 4); and for training images as they are.

few-shot: Frechet distance to the real images of a class (splits test and val) of samples made from few labels, binary
(50 + 50) and positive-unlabelled (100 + 10,000), over several seeds, against images that were not chosen (Table 3).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from faces import Faces, open_faces
from measuring import conditions
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diffae import checkpoint
from diffae.autoencoder import DiffusionAutoencoder
from diffae.config import PriorConfig, Sampling, TrainingConfig, from_dict
from diffae.data.pack import Pack
from diffae.diffusion.process import Scales
from diffae.diffusion.schedules import alpha_bar_of
from diffae.evaluation.distances import frechet
from diffae.evaluation.features import FeatureNetwork
from diffae.few_shot import LatentClassifier, sample_like
from diffae.images import to_tensor
from diffae.latents import encode_pack
from diffae.networks.latent import SkipMLP
from diffae.presets import prior_presets
from diffae.training.autoencoder import held_out
from diffae.training.journal import Journal
from diffae.training.loop import Trainer
from diffae.training.prior import PriorTask

PRESETS = ("small32", "ffhq128")
CLASSES = {"Male": ("Male", 1), "Female": ("Male", 0), "Child": ("Child", 1)}


# ---------------------------------------------------------------------- speed


class _Images(Dataset):
    """Images of a pack one by one, in [-1, 1]."""

    def __init__(self, pack: Pack, rows: np.ndarray) -> None:
        self.pack, self.rows = pack, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return to_tensor(self.pack.fetch(self.rows[index : index + 1]))[0]


def endless(data: Dataset, batch: int, workers: int) -> Iterator[Any]:
    """Shuffled batches of a data loader, epoch after epoch."""
    loader = DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def plain_step(config: PriorConfig, training: TrainingConfig, task: PriorTask, draw: Callable[[], Tensor]):
    """One step of the plain loop, as a function; `draw` returns the next batch of normalised z_sem."""
    network = SkipMLP(task.z_norm.shape[1], config.hidden_channels, config.layers).train()
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    alpha_bar = alpha_bar_of(config.diffusion)

    def step() -> None:
        z = draw()
        t, eps = torch.randint(1, len(alpha_bar), (len(z),)), torch.randn_like(z)
        output = network(Scales.at(alpha_bar, t, 2).add_noise(z, eps), t - 1)
        loss = (output - eps).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
        optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), network.parameters(), strict=True):
                ours.copy_(0.9999 * ours + 0.0001 * theirs)

    return step


def steps_of(
    preset: str,
    model: DiffusionAutoencoder,
    pack: Pack,
    rows: np.ndarray,
    codes: np.ndarray,
    folder: Path,
    workers: int,
) -> tuple[int, dict[str, Callable[[], object]]]:
    """The batch size, and a step of every loop, as functions."""
    config, training = prior_presets()[preset]
    task = PriorTask(config, training, codes, codes[:256], folder, "")
    loaded = endless(TensorDataset(task.z_norm), training.batch_size, workers)
    encoded = endless(_Images(pack, rows), training.batch_size, workers)

    def encode() -> Tensor:
        return (model.encode_semantic(next(encoded)) - task.mean) / task.std

    quiet = Console(quiet=True)
    trainer = Trainer(task, training, folder, Journal(folder, training.images, quiet), Accelerator(cpu=True))
    batches = task.batches(0, 0, 1)
    return training.batch_size, {
        "this loop": lambda: trainer.take_step(next(batches)).tolist(),
        "z_sem through a data loader": plain_step(config, training, task, lambda: next(loaded)[0]),
        "images through a data loader, encoded": plain_step(config, training, task, encode),
    }


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Codes per second of every loop, for a small and a paper's prior."""
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    pack = Pack.open(arguments.images)
    training = from_dict(TrainingConfig, checkpoint.read_config(arguments.run)["training"])
    rows, _ = held_out(pack, training)
    codes = encode_pack(model, pack, rows, arguments.run / "cache")
    results = {}
    for preset in PRESETS:
        with tempfile.TemporaryDirectory() as folder:
            batch, loops = steps_of(preset, model, pack, rows, codes, Path(folder), arguments.workers)
            seconds: dict[str, list[float]] = {name: [] for name in loops}
            for _ in range(arguments.steps + 2):
                for name, step in loops.items():
                    start = time.perf_counter()
                    step()
                    seconds[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(times[2:]) for name, times in seconds.items()}  # the first two warm up
        ours = medians["this loop"]
        table = Table("loop", "codes/s", "ours is faster by", title=f"training the prior of {preset}, batch {batch}")
        for name, median in medians.items():
            table.add_row(name, f"{batch / median:,.0f}", f"{median / ours:.1f}")
        Console().print(table)
        results[preset] = {
            "batch": batch,
            "seconds": medians,
            "codes_per_second": {n: batch / s for n, s in medians.items()},
        }
    return {"loader_workers": arguments.workers, "steps": arguments.steps, "loops": results}


# ---------------------------------------------------------------------- quality


def features(network: FeatureNetwork, x: Tensor) -> np.ndarray:
    """Feature vectors of images."""
    return network.pooled(x.clamp(-1, 1))


def seeded(seed: int) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def makers(
    model: DiffusionAutoencoder, baseline: DiffusionAutoencoder | None, x: Tensor, count: int
) -> dict[str, Callable[[Sampling], Tensor]]:
    """What makes images, by name; x are training images."""
    z_sem = model.encode_semantic(x)

    def autoencoded(sampling: Sampling) -> Tensor:
        explicit = Sampling(sampling.steps, sampling.grid, "explicit")
        return model.decode(model.encode(x, explicit), sampling=explicit)

    made: dict[str, Callable[[Sampling], Tensor]] = {
        "with prior": lambda sampling: model.sample(count, sampling=sampling, generator=seeded(0)),
        "z_sem of training images, x_T random": lambda sampling: model.decode(
            z_sem=z_sem, sampling=sampling, generator=seeded(0)
        ),
        "+ autoencoding": autoencoded,
    }
    if baseline is not None:
        made["DDIM baseline"] = lambda sampling: baseline.sample(count, sampling=sampling, generator=seeded(0))
    return made


def quality(arguments: argparse.Namespace) -> dict[str, Any]:
    """Frechet distances to the test split."""
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    baseline = arguments.baseline and DiffusionAutoencoder.from_pretrained(arguments.baseline, "cpu")
    faces, network = open_faces(arguments.faces, arguments.cache), FeatureNetwork.open(arguments.features)
    train_rows = np.random.default_rng(0).permutation(faces.rows("train"))[: arguments.count]
    real = features(network, faces.images(faces.rows("test")))
    x = faces.images(train_rows)
    floor = frechet(features(network, x), real)
    name = network.frechet_name
    found: dict[str, dict[str, float]] = {}
    for what, make in makers(model, baseline, x, arguments.count).items():
        found[what] = {}
        for steps in arguments.steps:
            found[what][str(steps)] = frechet(features(network, make(Sampling(steps))), real)
            print(f"{what}, {steps} steps: {name} {found[what][str(steps)]:.3f}", flush=True)
    title = f"{name} of {arguments.count} images to {len(real)} of the test split"
    table = Table("images", *(f"T={steps}" for steps in arguments.steps), title=title)
    for what, values in found.items():
        table.add_row(what, *(f"{value:.2f}" for value in values.values()))
    Console(width=120).print(table, f"training images as they are: {floor:.2f}")
    return {"measure": name, "count": arguments.count, "real": len(real), "distances": found, "training images": floor}


# ---------------------------------------------------------------------- few labels


def examples(faces: Faces, name: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows of positives and of what they are told from, for both kinds of few labels, from the train split."""
    column, wanted = CLASSES[name]
    rows = np.random.default_rng(seed).permutation(faces.rows("train"))
    is_one = faces.label(column)[rows] == wanted
    return {
        "binary, 50 + 50": (rows[is_one][:50], rows[~is_one][:50]),
        "positive-unlabelled, 100 + 10,000": (rows[is_one][:100], rows[-10_000:]),
    }


def few_shot(arguments: argparse.Namespace) -> dict[str, Any]:
    """Frechet distances to the real images of each class."""
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    prior = model.require_prior()
    faces, network = open_faces(arguments.faces, arguments.cache), FeatureNetwork.open(arguments.features)
    codes = encode_pack(model, faces.pack, np.arange(len(faces.pack)), arguments.run / "cache")
    z_sem = torch.from_numpy(np.array(codes))
    sampling, count = Sampling(arguments.steps), arguments.count
    held = faces.rows("test", "val")
    all_real = features(network, faces.images(np.random.default_rng(0).permutation(faces.rows("train"))[:count]))
    any_made = features(network, model.sample(count, sampling=sampling, generator=seeded(99)))
    results: dict[str, Any] = {}
    table = Table("class", "real images", "naive, real", "naive, sampled", "few labels", "FD mean", "sd", "kept")
    for name, (column, wanted) in CLASSES.items():
        real = features(network, faces.images(held[faces.label(column)[held] == wanted]))
        naive = {"real": frechet(all_real, real), "sampled": frechet(any_made, real)}
        results[name] = {"real images": len(real), "naive": naive}
        for seed in range(arguments.seeds):
            for kind, (like, others) in examples(faces, name, seed).items():
                classifier = LatentClassifier(prior).fit(z_sem[like], z_sem[others])
                found = sample_like(prior, classifier, count, generator=seeded(seed))
                made = model.decode(z_sem=found.z_sem, sampling=sampling, generator=seeded(seed))
                distance = frechet(features(network, made), real)
                entry = results[name].setdefault(kind, {"distances": [], "kept": []})
                entry["distances"].append(distance)
                entry["kept"].append(found.kept / found.drawn)
                print(f"{name}, {kind}, seed {seed}: {distance:.3f}, kept {entry['kept'][-1]:.1%}", flush=True)
        for kind in examples(faces, name, 0):
            values = results[name][kind]["distances"]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            about = [
                f"{statistics.mean(values):.2f}",
                f"{spread:.2f}",
                f"{statistics.mean(results[name][kind]['kept']):.0%}",
            ]
            table.add_row(name, str(len(real)), f"{naive['real']:.2f}", f"{naive['sampled']:.2f}", kind, *about)
    Console(width=140).print(table)
    return {"measure": network.frechet_name, "count": count, "steps": arguments.steps, "classes": results}


# ---------------------------------------------------------------------- command line


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    verbs = parser.add_subparsers(dest="verb", required=True)
    fast = verbs.add_parser("speed")
    fast.add_argument("run", type=Path)
    fast.add_argument("images", type=Path)
    fast.add_argument("--steps", type=int, default=12)
    fast.add_argument("--workers", type=int, default=0, help="processes of the data loaders")
    for verb, count in (("quality", 2000), ("few-shot", 1000)):
        added = verbs.add_parser(verb)
        for argument in ("run", "faces", "features"):
            added.add_argument(argument, type=Path)
        added.add_argument("--count", type=int, default=count)
        added.add_argument("--cache", type=Path, default=Path("runs/packs"))
        if verb == "quality":
            added.add_argument("--baseline", type=Path)
            added.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50, 100])
        else:
            added.add_argument("--steps", type=int, default=20)
            added.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    """Measure, print, and put the results into the JSON file."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    found = {"speed": speed, "quality": quality, "few-shot": few_shot}[arguments.verb](arguments)
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    results[arguments.verb] = {"conditions": conditions(arguments.threads), "run": arguments.run.name, **found}
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
