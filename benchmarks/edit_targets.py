"""Measure how near edits come to their targets: what was asked against what the edited image reads when encoded again.

    python benchmarks/edit_targets.py [MODEL] [--edits 200] [--rounds 0,3,5]

MODEL is a run folder with attributes, by default the model in the package. Images are drawn faces that it has not seen;
each edit asks one binary attribute, in turn, for a probability of 0.1, 0.3, 0.5, 0.7 or 0.9. Writes edit_targets.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from measuring import conditions
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from diffae import pretrained
from diffae.config import Sampling
from diffae.data.images import to_tensor
from diffae.latent.attributes import AttributeDirections
from diffae.latent.editing import NEAR, edit_images
from diffae.model import DiffusionAutoencoder
from sketchfaces import sketch_faces

SEED = 7
TARGETS = (0.1, 0.3, 0.5, 0.7, 0.9)


def errors(model: DiffusionAutoencoder, attributes: AttributeDirections, edits: int, rounds: int) -> np.ndarray:
    """|asked - read| of each edit, in probability."""
    names = [name for name in attributes.names_ if attributes.attributes_[name].binary]
    x_0 = to_tensor(sketch_faces(edits // len(TARGETS), model.image_shape[1], SEED).images)
    sampling, found = Sampling(inversion="explicit"), []
    for number in range(len(x_0)):
        name = names[number % len(names)]
        code = model.encode(x_0[number : number + 1], sampling)
        steps = [{name: f"p={target}"} for target in TARGETS]
        read = edit_images(model, attributes, code, steps, rounds=rounds, sampling=sampling).read
        found.append(np.abs(expit(read[:, attributes.index(name)]) - TARGETS))
    return np.concatenate(found)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=pretrained.pretrained_path("sketch32"))
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--rounds", default="0,3,5")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    model = DiffusionAutoencoder.from_pretrained(arguments.model, "cpu")
    attributes = AttributeDirections.load(arguments.model, model.fingerprint())
    results: dict[str, dict[str, float]] = {}
    table = Table("rounds", "edits", "mean |asked - read|", "largest", f"within {NEAR}")
    for rounds in map(int, arguments.rounds.split(",")):
        error = errors(model, attributes, arguments.edits, rounds)
        near = float((error <= NEAR).mean())
        results[str(rounds)] = {"edits": len(error), "mean": error.mean(), "largest": error.max(), "within": near}
        table.add_row(str(rounds), str(len(error)), f"{error.mean():.3f}", f"{error.max():.3f}", f"{near:.0%}")
    Console().print(table)
    about = {"conditions": conditions(torch.get_num_threads()), "near": NEAR, "targets": TARGETS}
    arguments.json.write_text(json.dumps(about | {"rounds": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
