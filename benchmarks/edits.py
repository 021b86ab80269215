"""Measure the attributes of a model of real faces: how well they are read, and how clean their edits are.

    python benchmarks/edits.py RUN FACES64 [--see squeezenet.onnx] [--same face-network.onnx] [--images 64]

FACES64 is a folder with images.zip and labels.csv (columns file, split, Male, Young, Child, age). Attributes are fitted
to z_sem of 5,000 images of the split "train" and read on all of "test", beside the same on 16x16 pixels. Then images of
"test" are edited in three ways: along the weight vector, as published; along what goes with it among images, the
default; and so that the readings of all others stay (--only). What happens is read by classifiers of other eyes:
linear ones on the features of an ONNX network (--see), or on pixels, fitted to the same 5,000 images; and by a face
network (--same). Prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faces import open_faces
from measuring import conditions
from rich.console import Console
from rich.table import Table

from diffae.data.feature_cache import encode_pack
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.tasks.manipulation import EditEffect, ImageProbe, edit_effects, pixels
from diffae.latent.attributes import AttributeDirections
from diffae.latent.probes import Score, auroc, r_squared
from diffae.model import DiffusionAutoencoder

NAMES = ("Male", "Young", "Child", "age")
LABELLED = 5000
STRENGTHS = (-0.5, -0.3, -0.1, 0.1, 0.3, 0.5)
YEARS = (5.0, 20.0, 40.0, 60.0)
WAYS = {"published": {"published": True}, "default": {}, "only": {}}

Labels = dict[str, np.ndarray]


def read_on_test(
    inputs: dict[str, tuple[np.ndarray, np.ndarray]], labels: Labels, test: Labels
) -> dict[str, dict[str, Score]]:
    """For each kind of input, (fitted to, tested on), the score of every attribute."""
    found = {}
    for what, (x, x_test) in inputs.items():
        readings = AttributeDirections().fit(x, labels)
        values = dict(zip(NAMES, readings.read(x_test).T, strict=True))
        scores = {name: r_squared if name == "age" else auroc for name in NAMES}
        found[what] = {name: scores[name](values[name], test[name]) for name in NAMES}
    return found


def edit_in_all_ways(
    model: DiffusionAutoencoder, x: torch.Tensor, attributes: AttributeDirections, probe: ImageProbe, same: Any
) -> dict[str, dict[str, list[EditEffect]]]:
    """For each attribute and way, the effects of every strength."""
    code = model.encode(x)
    found: dict[str, dict[str, list[EditEffect]]] = {}
    for name in NAMES:
        strengths = YEARS if name == "age" else STRENGTHS
        held = attributes.others([name])
        for way, how in WAYS.items():
            how = how | {"hold": held if way == "only" else (), "code": code, "same": same}
            found.setdefault(name, {})[way] = edit_effects(model, x, attributes, probe, name, strengths, **how)
    return found


def show(scores: dict[str, dict[str, Score]], effects: dict[str, dict[str, list[EditEffect]]]) -> None:
    """Both tables in the terminal."""
    console = Console(width=120)
    table = Table("read on the test split", *NAMES)
    for what, by_name in scores.items():
        table.add_row(what, *(f"{s.value:.3f} ({s.low:.3f} to {s.high:.3f})" for s in by_name.values()))
    console.print(table)
    table = Table("edited", "way", "strength", "target", "others (rms)", "leak", "image rms", "identity")
    for name, by_way in effects.items():
        for way, rows in by_way.items():
            for row in rows:
                others = float(np.sqrt(np.mean(np.square(list(row.others.values())))))
                figures = (row.strength, row.target, others, row.leak, row.pixels, row.identity)
                table.add_row(name, way, *("–" if f is None else f"{f:.3g}" for f in figures))
    console.print(table)


def main() -> None:
    """Read, edit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--see", help="ONNX network whose features the outside classifiers read; default: pixels")
    parser.add_argument("--same", help="ONNX network that compares faces; default: none")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--cache", type=Path, default=Path("runs/packs"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    faces = open_faces(arguments.faces, arguments.cache)
    rows, test_rows = faces.rows("train")[:LABELLED], faces.rows("test")
    labels, test = ({name: faces.label(name)[part] for name in NAMES} for part in (rows, test_rows))
    x, x_test = faces.images(rows), faces.images(test_rows)
    z, z_test = (np.array(encode_pack(model, faces.pack, part, arguments.run / "cache")) for part in (rows, test_rows))
    scores = read_on_test({"z_sem": (z, z_test), "16x16 pixels": (pixels(x), pixels(x_test))}, labels, test)
    probe = ImageProbe(FeatureNetwork.open(arguments.see).vectors if arguments.see else pixels).fit(x, labels)
    same = FeatureNetwork.open(arguments.same).similarity if arguments.same else None
    effects = edit_in_all_ways(model, x_test[: arguments.images], AttributeDirections().fit(z, labels), probe, same)
    show(scores, effects)
    network = {"see": Path(arguments.see).stem if arguments.see else "16x16 pixels", "images": arguments.images}
    probe_scores = {name: dataclasses.asdict(a.score) for name, a in probe.directions_.attributes_.items()}
    results = {
        "conditions": conditions(arguments.threads) | network | {"labelled": LABELLED, "tested": len(test_rows)},
        "read": {what: {name: dataclasses.asdict(s) for name, s in row.items()} for what, row in scores.items()},
        "reader": probe_scores,
        "edits": {
            name: {way: [dataclasses.asdict(e) | {"leak": e.leak} for e in effects] for way, effects in by_way.items()}
            for name, by_way in effects.items()
        },
    }
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
