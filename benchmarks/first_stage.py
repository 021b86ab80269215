"""What larger images cost with patches and with latents, and how exact the round trip is in latent space.

    python benchmarks/first_stage.py [--first-stage FOLDER] [--images 320] [--rounds 8] [--threads 2]

Training steps of the small presets, at 32 pixels and in the latents of larger images, are timed in turns in one run, so
that whatever else the machine does falls on all; data loading is included, and latents are stored before. Costs are
floating-point operations of one pass through encoder and decoder. Then latent256 is trained on --images drawn faces of
256 x 256 pixels, and some others are encoded exactly and decoded: errors are those of latents, and of images in [0, 1]
against what the first stage alone makes of them. Without FOLDER the first stage is a thin AutoencoderKL with random
weights: what training costs and how exact the codes are does not depend on it, what the images look like does.
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
from accelerate import Accelerator
from measuring import conditions
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from train_speed import timed

from diffae.config import ModelConfig, Sampling
from diffae.data.images import to_samples, to_tensor, to_unit
from diffae.data.pack import Pack
from diffae.latent.differences import differences_of, restored
from diffae.model import DiffusionAutoencoder
from diffae.networks.first_stages.settings import DiffusersConfig
from diffae.presets import presets
from diffae.training.autoencoder import AutoencoderTask, train_autoencoder
from diffae.training.held_out import held_out
from diffae.training.latents import store_parts
from diffae.training.logger import Logger
from diffae.training.trainer import Trainer
from sketchfaces import sketch_faces

PRESETS = ("small32", "small64", "small128", "latent256")
QUIET = Console(quiet=True)


def random_autoencoder(folder: Path) -> str:
    """Save an AutoencoderKL of factor 8 and 4 channels with random weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    levels = 4
    build: Any = AutoencoderKL  # whose blocks are typed as tuples of one
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    build(**blocks, block_out_channels=(8,) * levels, norm_num_groups=4, latent_channels=4).save_pretrained(folder)
    return str(folder)


def settings(name: str, source: str) -> ModelConfig:
    """A preset's model, in the latents of the first stage where it is made for them."""
    model = presets()[name][0]
    staged = name.startswith("latent")
    return replace(model, first_stage=DiffusersConfig.read(source, model.image_shape)) if staged else model


def step_of(name: str, source: str, folder: Path, batch: int) -> tuple[Callable[[], None], DiffusionAutoencoder]:
    """One training step as a function, and the model."""
    folder.mkdir()
    model, training = DiffusionAutoencoder(settings(name, source)), replace(presets()[name][1], batch_size=batch)
    shape = (64, model.config.image_size, model.config.image_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pack = Pack.from_arrays([pixels], folder / "noise.pack")
    stored = store_parts(model, pack, held_out(pack, training)[0], QUIET, mirrored=training.flip)
    task = AutoencoderTask(model, training, pack, folder, {}, QUIET, None, stored)
    trainer = Trainer(task, training, folder, Logger(folder, training.images, QUIET), Accelerator())
    batches = task.batches(0, 0, 1)

    def step() -> None:
        trainer.take_step(next(batches)).tolist()

    return step, model


def flops(model: DiffusionAutoencoder) -> int:
    """Floating-point operations of one pass of encoder and decoder over one image."""
    x, seen = (torch.zeros(1, *shape) for shape in (model.config.latent_shape, model.config.encoder_shape))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x, torch.zeros(1, dtype=torch.int64), seen)
    return counter.get_total_flops()


def costs(source: str, rounds: int, batch: int) -> list[dict[str, Any]]:
    """Images a second and operations an image of each preset; steps in turns, medians without the first two."""
    times: dict[str, list[float]] = {name: [] for name in PRESETS}
    with tempfile.TemporaryDirectory() as folder:
        steps = {name: step_of(name, source, Path(folder) / name, batch) for name in PRESETS}
        for _ in range(rounds + 2):
            for name, (step, _) in steps.items():
                times[name].append(timed(step))
        rows = []
        for name, (_, model) in steps.items():
            rate = batch / statistics.median(times[name][2:])
            parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
            facts = {"image_size": model.config.image_size, "GFLOPs": flops(model) / 1e9}
            rows.append({"preset": name, "images_per_second": rate, "parameters": parameters, **facts})
    for row in rows:
        row["relative_to_small32"] = row["images_per_second"] / rows[0]["images_per_second"]
    return rows


def exactness(source: str, images: int, count: int) -> dict[str, float]:
    """Errors of the exact round trip of images that the model was not trained on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack = Pack.from_arrays([sketch_faces(48, 256, seed=0).images], folder / "faces.pack")
        training = replace(presets()["latent256"][1], images=images, batch_size=16, validate_every=images)
        train_autoencoder(pack, folder / "run", settings("latent256", source), training, console=QUIET)
        model = DiffusionAutoencoder.from_pretrained(folder / "run", "cpu")
    pixels = sketch_faces(count, 256, seed=1).images
    x, sampling = to_tensor(pixels), Sampling(20)
    code = model.encode(x, sampling)
    assert code.residual is not None
    x_0, back = model.to_latents(x), model.decode(code, sampling=sampling)
    staged = model.config.first_stage
    own = model.from_latents(x_0)
    latents = decoded_latents(model, x, sampling)
    differences = differences_of(model, code, [*pixels], sampling)
    again = to_samples(back, model.config.input)
    exact = all(
        np.array_equal(restored(image, difference)[0], original)
        for image, difference, original in zip(again, differences, pixels, strict=True)
    )

    def mse(a: torch.Tensor, b: torch.Tensor) -> float:
        return (to_unit(a) - to_unit(b)).square().mean().item()

    assert isinstance(staged, DiffusersConfig)
    half = (x_0 - ((x_0 * scale(staged) + shift(staged)).half().float() - shift(staged)) / scale(staged)).square()
    return {
        "images": count,
        "trained_on": images,
        "latent_mse": (latents - x_0).square().mean().item(),
        "latent_mse_of_float16": half.mean().item(),
        "image_mse": mse(x, back),
        "image_mse_of_first_stage": mse(x, own),
        "bit_exact_with_residual": exact,
        "bytes_of_residual_per_image": sum(map(len, differences)) / count,
        "largest_residual": code.residual.max().item(),
    }


def scale(stage: DiffusersConfig) -> torch.Tensor:
    """Standard deviations of the channels."""
    return torch.tensor(stage.std).view(-1, 1, 1)


def shift(stage: DiffusersConfig) -> torch.Tensor:
    """Means of the channels."""
    return torch.tensor(stage.mean).view(-1, 1, 1)


def decoded_latents(model: DiffusionAutoencoder, x: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The latents that codes decode to: the last x0_hat of the decoder's steps."""
    seen: list[torch.Tensor] = []
    code = model.encode(x, sampling)
    model.decode(code, sampling=sampling, callback=lambda t, x0_hat: seen.append(x0_hat))
    return seen[-1].cpu()


def main() -> None:
    """Measure, print, write after each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-stage")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.first_stage or random_autoencoder(Path(folder) / "first_stage")
        results: dict[str, Any] = {"conditions": conditions(arguments.threads)}
        results["first_stage"] = "random AutoencoderKL" if arguments.first_stage is None else "trained"
        results["costs"] = costs(source, arguments.rounds, arguments.batch)
        print(json.dumps(results["costs"], indent=2), flush=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
        results["round_trip"] = exactness(source, arguments.images, arguments.count)
    print(json.dumps(results["round_trip"], indent=2))
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
