"""Training of an autoencoder of diffusers: it learns, is read by the library, resumed, and used as a first stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from training_run import TRAINING

from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.errors import CheckpointError, ConfigError
from diffae.networks.first_stages.settings import DiffusersConfig
from diffae.training.first_stage import FirstStageTraining, train_first_stage
from diffae.training.settings import TrainingConfig
from sketchfaces import sketch_faces

pytest.importorskip("diffusers")
QUIET = Console(quiet=True)
SETTINGS = FirstStageTraining(2, 4, 8)
SHORT = replace(TRAINING, images=32, validate_every=32, save_every=32)


def test_it_learns_and_is_a_first_stage(tmp_path: Path) -> None:
    pixels = sketch_faces(40, 16, seed=0).images
    pack = Pack.from_arrays([pixels], tmp_path / "faces.pack")
    training = TrainingConfig(images=800, batch_size=16, learning_rate=3e-3, val_images=4, validate_every=400)
    assert train_first_stage(pack, tmp_path / "ours", SETTINGS, training, console=QUIET)
    lines = [json.loads(line) for line in (tmp_path / "ours" / "metrics.jsonl").read_text().splitlines()]
    errors = [line["val_mse"] for line in lines if "val_mse" in line]
    assert errors[-1] < 0.9 * errors[0]
    assert len(list((tmp_path / "ours" / "samples").glob("*.png"))) == 2

    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    theirs: Any = AutoencoderKL.from_pretrained(tmp_path / "ours", use_safetensors=True)
    config = DiffusersConfig.read(str(tmp_path / "ours"), (3, 16, 16))
    assert (config.factor, config.latent_channels) == (2, 4)
    x = to_tensor(pixels[:2])
    with torch.no_grad():
        wanted = theirs.encode(x).latent_dist.mean
    torch.testing.assert_close(config.build((3, 16, 16)).encode(x), wanted)  # pyright: ignore[reportCallIssue]
    assert errors[-1] < pixels.var() / 255**2


def test_a_run_is_resumed_as_if_never_interrupted(pack: Pack, tmp_path: Path) -> None:
    train_first_stage(pack, tmp_path / "whole", SETTINGS, replace(SHORT, images=48), console=QUIET)
    train_first_stage(pack, tmp_path / "parts", SETTINGS, SHORT, console=QUIET)
    train_first_stage(pack, tmp_path / "parts", SETTINGS, replace(SHORT, images=48), resume=True, console=QUIET)
    files = [tmp_path / name / "diffusion_pytorch_model.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(CheckpointError, match=r"has latent_channels = 4, not 3: resume it with the same"):
        train_first_stage(pack, tmp_path / "parts", replace(SETTINGS, latent_channels=3), SHORT, resume=True)
    with pytest.raises(CheckpointError, match="exists already"):
        train_first_stage(pack, tmp_path / "parts", SETTINGS, SHORT)
    with pytest.raises(CheckpointError, match="holds no first stage to resume"):
        train_first_stage(pack, tmp_path / "none", SETTINGS, SHORT, resume=True)


def test_any_channels_and_16_bits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 8, 8, 5), dtype=np.uint16)
    pack = Pack.from_arrays([pixels], tmp_path / "five.pack")
    assert train_first_stage(pack, tmp_path / "ours", SETTINGS, replace(SHORT, images=8), console=QUIET)
    assert DiffusersConfig.read(str(tmp_path / "ours"), (5, 8, 8)).image_channels == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": 3}, "factor is 3: must be a power of 2"),
        ({"width": 12}, "width is 12: must be a multiple of 8"),
        ({"latent_channels": 0}, "latent_channels is 0: must be at least 1"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **changes)


def test_sizes_that_do_not_divide() -> None:
    with pytest.raises(ConfigError, match="image_size is 15: must be divisible by the factor, 2"):
        SETTINGS.build(3, 15)
