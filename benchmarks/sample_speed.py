"""Decoding speed against the plain path, alternating in one run; prints a table and writes JSON.

    python benchmarks/sample_speed.py [--presets small32 ffhq64] [--batch 1 16] [--steps 20] [--rounds 5]
                                      [--official PATH] [--threads 2]

The plain path is what the published code does on a CPU: the networks in float32, contiguous, eager, without gradients,
in a bare DDIM loop. Beside it `model.decode` in float32 and, where the CPU computes in it, in bfloat16, with new
weights. With ONEDNN_MAX_CPU_ISA=AVX2 and ATEN_CPU_CAPABILITY=avx2 in the environment the CPU is used as an older one.
PATH is a clone of the published repository (github.com/phizaz/diffae): its network, with the same weights under its own
names, is then timed too, in the same DDIM loop. Rounds alternate, so that whatever else the machine does falls on all;
ratios are of medians, and each has the largest difference of its pictures from the plain path's, in standard deviations
of those.

The measured peak is of matrix products of 2048 x 2048 in the same number of threads.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import conditions, peaks
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffae.compat.original.writing import autoencoder_tensors
from diffae.config import ModelConfig, Sampling, UNetConfig, UNetEncoderConfig
from diffae.diffusion.solvers import DDIM
from diffae.diffusion.timesteps import levels_of
from diffae.model import DiffusionAutoencoder
from diffae.model.runtime import supports_bfloat16
from diffae.presets import presets

Output = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t, time index, z_sem) -> the network's output."""


def awake(config: ModelConfig) -> DiffusionAutoencoder:
    """A model with new weights, of which none is zero: layers that start at zero would make all paths agree."""
    networks = DiffusionAutoencoder(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in networks.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return networks


def plain_decode(output: Output, alpha_bar, x_T: Tensor, z_sem: Tensor, steps: int) -> Tensor:
    """A bare DDIM loop on the default grid, for a network that predicts eps."""

    def predict(x: Tensor, t: int) -> Tensor:
        return output(x, torch.full((len(x),), t - 1), z_sem)

    with torch.no_grad():
        return DDIM().decode(predict, x_T, levels_of(steps, Sampling.spacing, len(alpha_bar) - 1), alpha_bar)


def published_network(path: Path, config: ModelConfig, networks: nn.Module) -> nn.Module:
    """The published code's network, encoder included, with the weights of ours."""
    sys.path.insert(0, str(path))
    from model.unet_autoenc import BeatGANsAutoencConfig  # pyright: ignore[reportMissingImports]

    decoder, encoder = config.decoder, config.encoder
    assert isinstance(decoder, UNetConfig)
    assert isinstance(encoder, UNetEncoderConfig)
    theirs = BeatGANsAutoencConfig(
        image_size=config.image_size,
        in_channels=config.image_channels,
        model_channels=decoder.model_channels,
        out_channels=config.image_channels,
        num_res_blocks=decoder.res_blocks,
        embed_channels=decoder.time_channels,
        attention_resolutions=decoder.attention_resolutions,
        dropout=decoder.dropout,
        channel_mult=decoder.channel_mult,
        num_heads=decoder.heads,
        resnet_two_cond=True,
        resnet_cond_channels=encoder.z_sem_channels,
        enc_out_channels=encoder.z_sem_channels,
        enc_pool="adaptivenonzero",
        enc_num_res_block=encoder.res_blocks,
        enc_channel_mult=encoder.channel_mult,
    ).make_model()
    theirs.load_state_dict(autoencoder_tensors(config, networks.state_dict()))
    return theirs


def paths(
    config: ModelConfig, batch: int, steps: int, official: Path | None
) -> tuple[dict[str, Callable[[], Tensor]], float]:
    """Each way of decoding as a function, and floating-point operations of one network call on one image."""
    networks = awake(config)
    model = copy.deepcopy(networks).to("cpu")  # in the layout for inference
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn((batch, *model.image_shape), generator=generator)
    z_sem = torch.randn((batch, config.z_sem_channels), generator=generator)
    found = {
        "plain": lambda: plain_decode(networks.decoder, model.alpha_bar, x_T, z_sem, steps),
        "diffae, float32": lambda: model.decode(z_sem=z_sem, x_T=x_T, sampling=Sampling(steps)),
    }
    if supports_bfloat16(model.device):
        coarse = Sampling(steps, precision="bfloat16")
        found["diffae, bfloat16"] = lambda: model.decode(z_sem=z_sem, x_T=x_T, sampling=coarse)
    if official:
        theirs = published_network(official, config, networks).eval()

        def output(x: Tensor, time_index: Tensor, z: Tensor) -> Tensor:
            return theirs(x, time_index, cond=z).pred

        found["published code"] = lambda: plain_decode(output, model.alpha_bar, x_T, z_sem, steps)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.decoder(x_T[:1], torch.zeros(1, dtype=torch.int64), z_sem[:1])
    return found, float(counter.get_total_flops())


def measure(config: ModelConfig, batch: int, steps: int, rounds: int, official: Path | None) -> dict:
    """Times of all paths, alternating; the first round warms up."""
    ways, flops = paths(config, batch, steps, official)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    pictures: dict[str, Tensor] = {}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            pictures[name] = way()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    plain = pictures["plain"]
    return {
        "batch": batch,
        "seconds": seconds,
        "images_per_second": {name: batch / median for name, median in medians.items()},
        "ratio": {name: medians["plain"] / median for name, median in medians.items()},
        "difference": {name: ((x - plain).abs().max() / plain.std()).item() for name, x in pictures.items()},
        "gflop_per_call": flops / 1e9,
        "gflop_per_second": {name: flops * batch * steps / median / 1e9 for name, median in medians.items()},
    }


def main() -> None:
    """Time all, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["small32", "ffhq64"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--official", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    highest = peaks()
    results: dict = {"conditions": conditions(arguments.threads), "peak_gflop_per_second": highest, "presets": {}}
    table = Table("preset", "batch", "path", "images/s", "ratio", "share of peak", "largest difference")
    for preset in arguments.presets:
        config = presets("paper")[preset][0]
        results["presets"][preset] = []
        for batch in arguments.batch:
            found = measure(config, batch, arguments.steps, arguments.rounds, arguments.official)
            results["presets"][preset].append(found)
            for name, rate in found["images_per_second"].items():
                top = highest.get("bfloat16" if "bfloat16" in name else "float32")
                share = "not measured" if top is None else f"{found['gflop_per_second'][name] / top:.0%}"
                cells = f"{rate:.2f}", f"{found['ratio'][name]:.2f}", share, f"{found['difference'][name]:.1e}"
                table.add_row(preset, str(batch), name, *cells)
            arguments.json.write_text(json.dumps(results | {"steps": arguments.steps}, indent=2) + "\n")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
