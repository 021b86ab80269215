"""Training in the latents of a first stage: what is diffused, what the encoder sees, what is computed once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from autoencoders import save_autoencoder
from rich.console import Console
from torch import nn
from training_run import DRY, TRAINING

from diffae.config import ModelConfig, UNetEncoderConfig
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.diffusion.settings import Sampling
from diffae.model import DiffusionAutoencoder
from diffae.networks.first_stages.pretrained import Autoencoder
from diffae.networks.first_stages.settings import DiffusersConfig, HaarConfig, SpaceToDepthConfig
from diffae.training.autoencoder import train_autoencoder
from diffae.training.held_out import held_out
from diffae.training.latents import LATENTS, store_parts
from diffae.training.settings import ContrastiveConfig, HOGConfig

QUIET = Console(quiet=True)
SHORT = replace(TRAINING, images=16, validate_every=16, save_every=16)
LOSSES = (ContrastiveConfig(), HOGConfig())


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    source = save_autoencoder(tmp_path / "theirs")
    return replace(DRY, first_stage=DiffusersConfig.read(source, (3, 16, 16)))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images that go through any first stage from now on."""
    counts: list[int] = []
    encode = Autoencoder.encode_raw

    def counting(self: Autoencoder, images: torch.Tensor) -> torch.Tensor:
        counts.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(Autoencoder, "encode_raw", counting)
    return counts


def test_latents_are_computed_once_and_normalised(
    pack: Pack, config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counted(monkeypatch)
    assert train_autoencoder(pack, tmp_path / "run", config, replace(SHORT, auxiliary_losses=LOSSES), console=QUIET)
    validated = 3 * 4  # the held-out images: their latents, those they are encoded from, those of the pictures
    assert sum(seen) - validated in range(2 * len(pack) - 8, 2 * len(pack) + 9)
    seen.clear()
    assert train_autoencoder(pack, tmp_path / "again", config, SHORT, console=QUIET)
    assert sum(seen) <= validated

    model = DiffusionAutoencoder.from_pretrained(tmp_path / "run", "cpu")
    stage = model.config.first_stage
    assert isinstance(stage, DiffusersConfig)
    rows = held_out(pack, SHORT)[0]
    latents = model.to_latents(to_tensor(pack.fetch(rows)))
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-3, rtol=0)
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["model"]["first_stage"]
    assert settings["kind"] == "diffusers"
    assert settings["mean"] == list(stage.mean)


def test_codes_of_latents_decode_to_what_the_first_stage_keeps(pack: Pack, config: ModelConfig, tmp_path: Path) -> None:
    train_autoencoder(pack, tmp_path / "run", config, SHORT, console=QUIET)
    model = DiffusionAutoencoder.from_pretrained(tmp_path / "run", "cpu")
    x, sampling = (
        to_tensor(pack.fetch(np.arange(3))),
        Sampling(5, precision="float64", tolerance=1e-9, max_iterations=80),
    )
    code = model.encode(x, sampling)
    assert code.x_T is not None
    assert code.x_T.shape == (3, 3, 8, 8)
    own = model.from_latents(model.to_latents(x))
    torch.testing.assert_close(model.decode(code, sampling=sampling), own, atol=1e-4, rtol=1e-4)


def test_another_version_of_the_first_stage_has_latents_of_its_own(
    pack: Pack, config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(len(pack))
    one = store_parts(DiffusionAutoencoder(config), pack, rows, QUIET, mirrored=False)[LATENTS]
    other = replace(config, first_stage=DiffusersConfig.read(save_autoencoder(tmp_path / "other", seed=1), (3, 16, 16)))
    seen = counted(monkeypatch)
    two = store_parts(DiffusionAutoencoder(other), pack, rows, QUIET, mirrored=False)[LATENTS]
    assert sum(seen) == len(pack)
    plain = np.zeros(2, bool)
    assert not torch.allclose(one.fetch(np.arange(2), plain), two.fetch(np.arange(2), plain), atol=1e-2)


class Rows(torch.utils.data.Dataset):
    """Images in no pack."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.pack.fetch(np.array([index]))[0]


def test_without_a_pack_latents_are_computed_in_each_step(pack: Pack, config: ModelConfig, tmp_path: Path) -> None:
    train_autoencoder(Rows(pack), tmp_path / "run", config, SHORT, console=QUIET)
    train_autoencoder(pack, tmp_path / "stored", config, SHORT, console=QUIET)
    found = [DiffusionAutoencoder.from_pretrained(tmp_path / name, "cpu").config for name in ("run", "stored")]
    stages = [config.first_stage for config in found]
    assert all(isinstance(stage, DiffusersConfig) and stage.mean for stage in stages)


class Seeing(nn.Module):
    """An encoder that notes the shape of what it sees."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape, self.linear, self.seen = shape, nn.Linear(shape[0], 8), set[tuple[int, ...]]()

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        self.seen.add(tuple(seen.shape[1:]))
        return self.linear(seen.mean(dim=(2, 3)))


@pytest.mark.parametrize("losses", [(), LOSSES])
@pytest.mark.parametrize("encoder_input", ["pixels", "latents"])
def test_the_encoder_sees_pixels_or_latents(
    pack: Pack, config: ModelConfig, tmp_path: Path, encoder_input: Any, losses: Any
) -> None:
    config = replace(config, encoder_input=encoder_input)
    encoder = Seeing(config.encoder_shape)
    model = DiffusionAutoencoder(config, encoder=encoder)
    assert train_autoencoder(pack, tmp_path / "run", model, replace(SHORT, auxiliary_losses=losses), console=QUIET)
    assert encoder.seen == {config.encoder_shape}
    x = to_tensor(pack.fetch(np.arange(2)))
    wanted = encoder(model.to_latents(x) if encoder_input == "latents" else x)
    torch.testing.assert_close(model.encode_semantic(x), wanted)
    assert encoder.seen == {(3, 8, 8) if encoder_input == "latents" else (3, 16, 16)}


@pytest.mark.parametrize("stage", [HaarConfig(2), SpaceToDepthConfig(2)])
def test_exact_first_stages_train_and_store_nothing(pack: Pack, tmp_path: Path, stage: Any) -> None:
    before = sorted(pack.path.iterdir())
    config = replace(DRY, first_stage=stage, encoder_input="latents", encoder=UNetEncoderConfig(8, 8, (1, 2), 1))
    train_autoencoder(pack, tmp_path / "run", config, SHORT, console=QUIET)
    assert sorted(pack.path.iterdir()) == before
    model = DiffusionAutoencoder.from_pretrained(tmp_path / "run", "cpu")
    assert model.config == config
    x, sampling = (
        to_tensor(pack.fetch(np.arange(2))),
        Sampling(5, precision="float64", tolerance=1e-9, max_iterations=80),
    )
    back = model.decode(model.encode(x, sampling), sampling=sampling)
    torch.testing.assert_close(back, x, atol=1e-5, rtol=0)
