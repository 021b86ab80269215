"""Measure a model's student against its decoder: pictures from random and from exact x_T; prints a table, writes JSON.

    python benchmarks/student.py NETWORK [MODEL] [--faces IMAGES] [--identity FILE] [--images 2000] [--inverted 64]
                                         [--precision float32] [--json student.json]

NETWORK is a feature network (an ONNX or TorchScript file, or a name that `diffae evaluate` knows), FILE one of faces.
MODEL is the one in the package by default, measured on drawn faces that it has not seen; IMAGES are other unseen ones.

FD         Frechet distance of --images pictures, from z_sem of as many images and x_T ~ N(0, I) (seed 0, the same for
           all), to the images themselves; "ratio" is to that of 10 calls of DPM-Solver++
PSNR       of --inverted images, from their z_sem and exact x_T, against the images in [0, 1]
identity   cosine of the features of FILE between the same; "others" are pairs of different images

Rows that the JSON file has already are kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import conditions
from rich.console import Console
from rich.table import Table
from torch import Tensor

from diffae.config import Sampling
from diffae.data.build import build_pack
from diffae.data.images import to_tensor, to_unit
from diffae.evaluation.distances import frechet
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.tasks.reconstruction import reconstruction_quality
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder
from diffae.model.student import STEPS
from diffae.pretrained import pretrained_path
from sketchfaces import sketch_faces

BASE = "DPM-Solver++, 10 calls"
WAYS = {
    BASE: Sampling.fast(10),
    f"DDIM, {Sampling().steps} calls": Sampling(),
    **{f"student, {steps} calls": Sampling.student(steps) for steps in STEPS},
}


def unseen(model: DiffusionAutoencoder, faces: Path | None, packs: Path, count: int) -> Tensor:
    """Images in [-1, 1] that the model has not seen: of a file or folder, else drawn."""
    size = model.image_shape[1]
    return to_tensor(build_pack(faces, packs, size=size).fetch(np.arange(count)) if faces else drawn(count, size))


def drawn(count: int, size: int) -> Any:
    """Drawn faces of a seed that training did not use."""
    return sketch_faces(count, size, seed=1).images


def from_noise(model: DiffusionAutoencoder, x: Tensor, sampling: Sampling, network: FeatureNetwork) -> float:
    """The distance of pictures of the z_sem of images to these images."""
    x_T = torch.randn((len(x), *model.config.latent_shape), generator=torch.Generator().manual_seed(0))
    made = model.decode(z_sem=model.encode_semantic(x), x_T=x_T, sampling=sampling).clamp(-1, 1)
    return frechet(network.vectors(made), network.vectors(x))


def from_code(
    model: DiffusionAutoencoder, code: Code, x: Tensor, sampling: Sampling, faces: FeatureNetwork | None
) -> dict[str, float]:
    """How near a picture is to the image whose code it is made of."""
    back = model.decode(code, sampling=sampling).clamp(-1, 1)
    psnr = reconstruction_quality(to_unit(x), to_unit(back)).psnr
    found = {"psnr": psnr.mean().item(), "worst psnr": psnr.min().item()}
    if faces is not None:
        same = faces.similarity(x, back)
        found |= {"identity": float(same.mean()), "worst identity": float(same.min())}
    return found


def show(found: dict[str, Any]) -> None:
    """The rows as a table."""
    table = Table("decoder", found["distance"], "ratio", "PSNR dB", "worst", "identity", "worst")
    for name, row in found["rows"].items():
        identity = [f"{row[key]:.3f}" if key in row else "" for key in ("identity", "worst identity")]
        ratio = f"{row['fd'] / found['rows'][BASE]['fd']:.2f}"
        table.add_row(name, f"{row['fd']:.4g}", ratio, f"{row['psnr']:.1f}", f"{row['worst psnr']:.1f}", *identity)
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("model", type=Path, nargs="?", default=pretrained_path())
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--identity")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--inverted", type=int, default=64)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = DiffusionAutoencoder.from_pretrained(arguments.model, "cpu")
    x = unseen(model, arguments.faces, arguments.model.parent / "packs", arguments.images)
    network = FeatureNetwork.open(arguments.network)
    faces = FeatureNetwork.open(arguments.identity) if arguments.identity else None
    inverted = x[: arguments.inverted]
    code = model.encode(inverted)
    found: dict[str, Any] = {
        "conditions": conditions(arguments.threads) | {"model": model.fingerprint()},
        "distance": network.frechet_name,
        "images": arguments.images,
        "inverted": arguments.inverted,
        "others": None if faces is None else float(faces.similarity(inverted, inverted.roll(1, 0)).mean()),
        "rows": json.loads(arguments.json.read_text())["rows"] if arguments.json.exists() else {},
    }
    for name in [name for name in WAYS if name not in found["rows"]]:
        sampling = replace(WAYS[name], precision=arguments.precision)
        row = from_code(model, code, inverted, sampling, faces)
        found["rows"][name] = row | {"fd": from_noise(model, x, sampling, network), "precision": arguments.precision}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
        show(found)


if __name__ == "__main__":
    main()
