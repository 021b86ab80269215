"""Networks for 64 x 64 faces by the default recipe: the same images seen, at what cost and with what result.

    python benchmarks/networks64.py FACES64 FEATURES.onnx [--images 16000] [--seeds 0] [--runs ...]

FACES64 and FEATURES.onnx are those of recipe.py, whose measurements these are. Every network is trained on the split
"train" in a run folder below --out, and measured on --split. Cost is counted in floating-point operations of one
image's encoder and decoder pass, and timed by training steps of all networks in turn.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from faces import Faces, open_faces
from measuring import conditions
from recipe import decodings, print_rows, readings, validations
from torch.utils.flop_counter import FlopCounterMode
from train_speed import our_step, timed

from diffae.config import ModelConfig
from diffae.evaluation.features import FeatureNetwork
from diffae.model import DiffusionAutoencoder
from diffae.presets import presets
from diffae.training.autoencoder import train_autoencoder
from diffae.training.settings import TrainingConfig

NETWORKS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "pixels": (1, 32, (1, 2, 2, 4)),
    "2x2 patches": (2, 32, (1, 2, 4)),
    "2x2 patches, as small32": (2, 32, (1, 2, 2)),
}
"""Patch size, width, multiples of the width in the decoder's levels; the encoder has one level more."""


def settings(name: str, images: int, seed: int) -> tuple[ModelConfig, TrainingConfig]:
    """The default recipe's small64 with another network."""
    patch, width, mult = NETWORKS[name]
    model, training = presets()["small64"]
    shared = {"patch_size": patch, "model_channels": width}
    decoder = dataclasses.replace(model.decoder, channel_mult=mult, z_map_channels=3 * width // 16, **shared)  # pyright: ignore[reportArgumentType]
    encoder = dataclasses.replace(model.encoder, channel_mult=(*mult, mult[-1]), **shared)  # pyright: ignore[reportArgumentType]
    length = {"images": images, "seed": seed, "validate_every": images, "val_images": 128}
    return dataclasses.replace(model, decoder=decoder, encoder=encoder), dataclasses.replace(training, **length)


def flops(config: ModelConfig) -> int:
    """Floating-point operations of one pass of encoder and decoder over one image."""
    model = DiffusionAutoencoder(config)
    images = torch.zeros(1, *config.image_shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images, torch.zeros(1, dtype=torch.int64), images)
    return counter.get_total_flops()


def seconds_per_image(names: list[str], rounds: int) -> dict[str, float]:
    """Of training, by all networks in turn; medians."""
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        steps = {}
        for number, name in enumerate(names):
            model, training = settings(name, 250_000, 0)
            path = Path(folder) / str(number)
            path.mkdir()
            steps[name] = our_step(model, training, path)[0], training.batch_size
        for _ in range(rounds):
            for name, (step, batch) in steps.items():
                times[name].append(timed(step) / batch)
    return {name: statistics.median(values[2:]) for name, values in times.items()}  # the first two warm up


def trained(name: str, seed: int, arguments: argparse.Namespace, faces: Faces, features: FeatureNetwork) -> dict:
    """Train, and measure."""
    folder = arguments.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
    model, training = settings(name, arguments.images, seed)
    data = {"source": "faces64, split train", "recipe": "default", "preset": "small64"}
    if not train_autoencoder(faces.training_pack(), folder, model, training, resume=folder.exists(), data=data):
        raise KeyboardInterrupt  # a length that was not reached is not measured
    result = DiffusionAutoencoder.from_pretrained(folder, "cpu")
    row: dict[str, Any] = {"run": name, "seed": seed, "images": arguments.images, "GFLOPs": flops(model) / 1e9}
    row |= readings(result.encode_semantic, faces, arguments.split)
    row |= decodings(result, faces, arguments.split, features)
    return row | validations(folder)[-1]


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/networks64"))
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--runs", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    return parser.parse_args()


def main() -> None:
    """Train, measure, print, write after every run."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    faces = open_faces(arguments.faces, arguments.out.parent / "packs", size=64)
    features = FeatureNetwork.open(arguments.features)
    seconds = seconds_per_image(arguments.runs, arguments.rounds)
    rows = []
    for seed in map(int, arguments.seeds.split(",")):
        for name in arguments.runs:
            rows.append(trained(name, seed, arguments, faces, features))
            print_rows(rows)
            results = {"conditions": conditions(arguments.threads), "split": arguments.split}
            results |= {"seconds_per_image": seconds, "runs": rows}
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
