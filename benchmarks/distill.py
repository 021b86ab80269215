"""Distil the model in the package by two families of methods, and measure their students; prints a table, writes JSON.

    python benchmarks/distill.py NETWORK [--folder runs/distill] [--length 3200] [--trajectories 192] [--images 500]
                                         [--families regression consistency] [--train-only] [--json distill.json]

NETWORK is a feature network (an ONNX or TorchScript file, or a name that `diffae evaluate` knows). Families:
regression   `diffae distill`: each call learns where the decoder's own trajectory is after its step
consistency  consistency tuning (Geng et al., "Consistency Models Made Easy", 2024): x0_hat at a level learns x0_hat at
             a lower one of the same image and noise; the lower level nears the higher one in four stages

Both start from the decoder, see as many images by the same optimiser, and decode by the same steps. Measured on faces
that neither has seen, images in [0, 1]:
PSNR  of 32, from their z_sem and exact x_T, against the images
FD    Frechet distance of faces decoded from z_sem and random x_T to the faces themselves, in proportion to that of 10
      calls of DPM-Solver++
Training may be interrupted, and goes on when started again. Seconds are of this process, not of the clock.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import conditions
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from diffae import checkpoint
from diffae.config import Sampling, from_dict
from diffae.data.images import to_tensor, to_unit
from diffae.data.pack import Pack
from diffae.diffusion.process import Scales
from diffae.evaluation.distances import frechet
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.tasks.reconstruction import reconstruction_quality
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder
from diffae.model.student import STEPS, STUDENT, Student
from diffae.pretrained import pretrained_path
from diffae.training.autoencoder import mix
from diffae.training.logger import Logger
from diffae.training.settings import TrainingConfig
from diffae.training.state import STATE
from diffae.training.student import StudentTask, student_training
from diffae.training.trainer import train
from diffae.training.trajectories import Trajectories, trajectories
from sketchfaces import sketch_faces

EXACT, VALIDATED = 32, 8
"""Images inverted exactly to measure, and to validate."""
BASE = "DPM-Solver++, 10 calls"
STAGES = 4
"""Of consistency tuning: the lower level is t / 2, then 3 t / 4, ..."""
FROM_TOP = 0.3
"""Share of images whose level is T, where decoding begins."""


class ConsistencyTask(StudentTask):
    """Consistency tuning on the same images: x_0 of the trajectories, with noise that is drawn."""

    def losses(
        self, networks: nn.Module, batch: slice, step: int, device: torch.device, parts: int
    ) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(mix(self.config.seed, step))
        size, top = self.config.batch_size, self.model.process.levels
        assert self.lessons.z_sem is not None
        rows = torch.randint(len(self.lessons.states), (size,), generator=generator)[batch]
        x_0, z_sem = self.lessons.states[rows, 0], self.lessons.z_sem[rows]
        eps = torch.randn((size, *x_0.shape[1:]), generator=generator)[batch]
        t = torch.randint(2, top + 1, (size,), generator=generator)
        t = torch.where(torch.rand(size, generator=generator) < FROM_TOP, top, t)[batch]
        stage = min(step * STAGES // self.config.steps, STAGES - 1) + 1
        lower = (t - t // 2**stage - 1).clamp(min=1)
        for part in zip(*(x.chunk(parts) for x in (x_0, eps, z_sem, t, lower)), strict=True):
            yield self._consistency(networks, *(x.to(device) for x in part))

    def _consistency(
        self, networks: nn.Module, x_0: Tensor, eps: Tensor, z_sem: Tensor, t: Tensor, lower: Tensor
    ) -> Tensor:
        def x0_hat(t: Tensor) -> Tensor:
            scales = Scales.at(self.model.alpha_bar, t, x_0.dim())
            x_t = scales.add_noise(x_0, eps)
            return scales.signal * x_t - scales.noise * networks(x_t, t - 1, z_sem).float()

        with torch.no_grad():
            wanted = x0_hat(lower)
        squared = (x0_hat(t) - wanted).square().mean(dim=(1, 2, 3))
        return (squared + 1e-6).sqrt().mean()  # pseudo-Huber, on which the method depends


FAMILIES = {"regression": StudentTask, "consistency": ConsistencyTask}


Settings = tuple[DiffusionAutoencoder, TrainingConfig, Trajectories, Tensor, Sampling]


def distilled(kind: type[StudentTask], folder: Path, settings: Settings) -> tuple[Student, float]:
    """The student of one family, and the seconds of its training; read where it is there already."""
    model, config, *_ = settings
    spent = folder / "seconds.json"
    if not spent.exists():
        folder.mkdir(parents=True, exist_ok=True)
        start = time.process_time()
        logger = Logger(folder, config.images, Console())
        if not train(kind(*settings, folder), config, folder, logger, resume=(folder / STATE).exists()):
            raise SystemExit("interrupted; start again to go on")
        spent.write_text(json.dumps(time.process_time() - start))
    assert (folder / STUDENT).exists()
    return Student.load(folder, model, model.fingerprint()), json.loads(spent.read_text())


def measure(
    model: DiffusionAutoencoder, sampling: Sampling, code: Code, x: Tensor, network: FeatureNetwork
) -> dict[str, float]:
    """PSNR from exact x_T, and the distance from random x_T, of one way of decoding."""
    quality = reconstruction_quality(to_unit(x[: len(code)]), to_unit(model.decode(code, sampling=sampling)))
    x_T = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    made = model.decode(z_sem=model.encode_semantic(x), x_T=x_T, sampling=sampling).clamp(-1, 1)
    found = frechet(network.vectors(made), network.vectors(x))
    return {"psnr": quality.psnr.mean().item(), "worst psnr": quality.psnr.min().item(), "fd": found}


def show(found: dict[str, Any]) -> None:
    """The rows as a table."""
    table = Table("decoder", "PSNR dB", "worst", found["distance"], "ratio")
    for name, row in found["rows"].items():
        psnr = f"{row['psnr']:.1f}", f"{row['worst psnr']:.1f}"
        table.add_row(name, *psnr, f"{row['fd']:.3g}", f"{row['fd'] / found['rows'][BASE]['fd']:.2f}")
    Console(width=100).print(table)


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--folder", type=Path, default=Path("runs/distill"))
    parser.add_argument("--length", type=int, default=3200)
    parser.add_argument("--trajectories", type=int, default=192)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = DiffusionAutoencoder.from_pretrained(pretrained_path(), "cpu")
    x = to_tensor(sketch_faces(arguments.images, 32, seed=1).images)
    decoder = from_dict(TrainingConfig, checkpoint.read_config(pretrained_path())["training"])
    config = replace(student_training(decoder, arguments.length), validate_every=arguments.length)
    lessons = lessons_of(model, arguments.folder, arguments.trajectories)
    settings = (model, config, lessons, x[:VALIDATED], Sampling())
    students = {name: distilled(FAMILIES[name], arguments.folder / name, settings) for name in arguments.families}
    if arguments.train_only:
        return
    network = FeatureNetwork.open(arguments.network)
    found: dict[str, Any] = {
        "conditions": conditions(arguments.threads) | {"model": model.fingerprint()},
        "distance": network.frechet_name,
        "images": arguments.images,
        "inverted": EXACT,
        "trajectories": arguments.trajectories,
        "length": arguments.length,
        "calls of trajectories": 2 * Sampling().steps * arguments.trajectories,
        "seconds of training": {name: seconds for name, (_, seconds) in students.items()},
        "rows": {},
    }
    code = model.encode(x[:EXACT], Sampling())
    for name, family, sampling in [
        (BASE, None, Sampling.fast(10)),
        *((f"{name}, {steps} calls", name, Sampling.student(steps)) for name in students for steps in STEPS),
    ]:
        model.student = students[family][0] if family else None
        found["rows"][name] = measure(model, sampling, code, x, network)
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
        show(found)


def lessons_of(model: DiffusionAutoencoder, folder: Path, count: int) -> Trajectories:
    """Trajectories of drawn faces; read where they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "faces.pack"
    pack = Pack.open(path) if path.exists() else Pack.from_arrays([sketch_faces(count, 32, seed=0).images], path)
    return trajectories(model, pack, np.arange(count), Sampling(), 0, folder, lambda done: None)


if __name__ == "__main__":
    main()
