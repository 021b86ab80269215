"""Group normalisation in 32 groups, as in the paper, or in fewer, in the small networks on real images.

    python benchmarks/norm_groups.py PHOTOS [--presets small32 small64] [--groups 32 8] [--images 16000] [--runs DIR]

With 32 channels, 32 groups normalise each channel of each image by itself. Each network is trained on PHOTOS in a
folder below --runs, all from the same seed; one that is there already is only read.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import conditions

import diffae
from diffae.config import ModelConfig
from diffae.presets import presets
from diffae.training.metrics import read_metrics


def with_groups(model: ModelConfig, groups: int) -> ModelConfig:
    """The model with other groups in both networks."""
    changed: dict[str, Any] = {
        name: replace(getattr(model, name), norm_groups=groups) for name in ("decoder", "encoder")
    }
    return replace(model, **changed)


def measured(photos: Path, run: Path, preset: str, groups: int, images: int) -> dict[str, Any]:
    """Losses of one network on images held out, at the end."""
    if not (run / "model.safetensors").is_file():
        model = with_groups(presets()[preset][0], groups)
        diffae.train(photos, run, preset, model=model, seen=images, validate_every=images // 2)
    last = [line for line in read_metrics(run) if "val_loss" in line][-1]
    names = ("images", "val_loss", "val_loss_shuffled", "val_mse_semantic")
    return {"preset": preset, "groups": groups, **{name: last[name] for name in names}}


def main() -> None:
    """Train what is not there, and write norm_groups.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--presets", nargs="+", default=["small32", "small64"])
    parser.add_argument("--groups", type=int, nargs="+", default=[32, 8])
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--runs", type=Path, default=Path("runs/norm-groups"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    rows = [
        measured(given.photos, given.runs / f"{preset}-{groups}", preset, groups, given.images)
        for preset in given.presets
        for groups in given.groups
    ]
    for row in rows:
        print(
            ", ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )
    given.json.write_text(
        json.dumps(
            {"conditions": conditions(torch.get_num_threads()), "photos": given.photos.name, "rows": rows}, indent=2
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
