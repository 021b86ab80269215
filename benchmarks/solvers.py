"""Measure sample quality against network calls, for solvers and timestep spacings; prints a table and writes JSON.

    python benchmarks/solvers.py RUN FACES64 NETWORK [--images 2000] [--seed 0] [--settings "ddim quadratic 50" ...]

FACES64 is a folder with images.zip and labels.csv (column split); NETWORK is a feature network (an ONNX or TorchScript
file, or a name that `diffae evaluate` knows). Each setting decodes the same z_sem with the same x_T, drawn from the
seed. "conditional": z_sem of each image of the split "test". "unconditional": from the prior where the run has one,
else z_sem drawn, with replacement, from images of the split "train". The distance is from all of "test"; beside it
stands that of as many images of "train". "of the ODE" is the root mean square difference, images in [0, 1], from the
same x_T solved in 100 steps.
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
from torch import Tensor

from diffae.config import Sampling, from_dict
from diffae.data.build import build_pack
from diffae.data.images import to_tensor
from diffae.data.labels import LabelTable
from diffae.evaluation.distances import frechet
from diffae.evaluation.features import FeatureNetwork
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder

SETTINGS = (
    "ddim quadratic 50",
    "ddim trailing 50",
    "ddim quadratic 10",
    "dpm++2m quadratic 10",
    "dpm++2m trailing 10",
    "dpm++2m squares 10",
    "dpm++2m squares 20",
)
SOLVED = 32
"""Images whose distance from the solved ODE is measured."""


def sampling_of(text: str) -> Sampling:
    """ "SOLVER GRID STEPS" as settings."""
    solver, spacing, steps = text.split()
    return from_dict(Sampling, {"solver": solver, "spacing": spacing, "steps": int(steps)})


def unconditional(model: DiffusionAutoencoder, x_train: Tensor, generator: torch.Generator) -> tuple[str, Tensor]:
    """As many z_sem as there are images, from the prior or resampled; and which of the two."""
    if model.prior is not None:
        return "prior", model.prior.sample(len(x_train), generator=generator)
    rows = torch.randint(len(x_train), (len(x_train),), generator=generator)
    return "resampled from the training split", model.encode_semantic(x_train)[rows]


def main() -> None:
    """Decode with every setting, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("network")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = DiffusionAutoencoder.from_pretrained(arguments.run, "cpu")
    network = FeatureNetwork.open(arguments.network)
    pack = build_pack(arguments.faces / "images.zip", arguments.run.parent / "packs", size=model.image_shape[1])
    labels = LabelTable.read(arguments.faces / "labels.csv")
    split = labels.align(pack.names)[:, labels.columns.index("split")]
    test, train = (np.flatnonzero(split == labels.classes["split"].index(name)) for name in ("test", "train"))
    x_test, x_train = to_tensor(pack.fetch(test)), to_tensor(pack.fetch(train[: arguments.images]))
    generator = torch.Generator().manual_seed(arguments.seed)
    source, drawn = unconditional(model, x_train, generator)
    z_sem = {"conditional": model.encode_semantic(x_test[: arguments.images]), "unconditional": drawn}
    x_T = torch.randn((arguments.images, *model.image_shape), generator=generator)
    real = network.vectors(x_test)
    rows = [{"setting": f"{len(x_train)} real images of train", "conditional": frechet(network.vectors(x_train), real)}]
    few = Code(z_sem["conditional"][:SOLVED], x_T[:SOLVED])
    solved = model.decode(few, sampling=Sampling(100, solver="dpm++2m"))
    for text in arguments.settings:
        sampling = from_dict(Sampling, vars(sampling_of(text)) | {"precision": arguments.precision})
        away = model.decode(few, sampling=sampling) - solved
        row: dict = {"setting": text, "of the ODE": away.square().mean().sqrt().item() / 2}  # images in [0, 1]
        for what, z in z_sem.items():
            row[what] = frechet(network.vectors(model.decode(z_sem=z, x_T=x_T[: len(z)], sampling=sampling)), real)
        rows.append(row)
        print(row, flush=True)
        found = {
            "conditions": conditions(arguments.threads) | {"seed": arguments.seed, "model": model.fingerprint()},
            "distance": network.frechet_name,
            "images": arguments.images,
            "precision": arguments.precision,
            "unconditional z_sem": source,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    columns = ("setting", "conditional", "unconditional", "of the ODE")
    table = Table(*columns, title=f"{network.frechet_name}, {arguments.images} images")
    for row in rows:
        cells = (row.get(name, "") for name in columns)
        table.add_row(*(cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
