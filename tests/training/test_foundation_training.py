"""Training with a pretrained network as encoder: features are computed once, standardised, and only the map learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from scripts import save_script
from torch import nn
from training_run import DRY, TRAINING

from diffae.config import ModelConfig
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.errors import ConfigError
from diffae.model import DiffusionAutoencoder
from diffae.networks.foundation.encoder import FoundationEncoder
from diffae.networks.foundation.network import FrozenNetwork
from diffae.networks.foundation.settings import FoundationConfig
from diffae.training.autoencoder import train_autoencoder
from diffae.training.held_out import held_out
from diffae.training.settings import ContrastiveConfig, HOGConfig

QUIET = Console(quiet=True)
SHORT = replace(TRAINING, images=16, validate_every=16, save_every=16)


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    torch.manual_seed(0)
    source = save_script(tmp_path / "net.pt", nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.SiLU(), nn.Flatten()))
    return replace(DRY, encoder=FoundationConfig.read(source, (3, 16, 16), 8))


def test_features_are_computed_once_and_only_the_map_learns(
    pack: Pack, config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = FrozenNetwork.forward

    def counting(self: FrozenNetwork, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(FrozenNetwork, "forward", counting)
    training = replace(SHORT, auxiliary_losses=(HOGConfig(),))
    model = DiffusionAutoencoder(config)
    before = model.encoder.get_parameter("head.0.weight").detach().clone()  # pyright: ignore[reportOptionalMemberAccess]
    assert train_autoencoder(pack, tmp_path / "run", model, training, console=QUIET)
    validated = 2 * 4  # z_sem of the held-out images, and of those in the pictures
    assert sum(seen) == 2 * len(pack) + validated
    seen.clear()
    assert train_autoencoder(pack, tmp_path / "again", config, SHORT, console=QUIET)
    assert sum(seen) <= validated

    trained = DiffusionAutoencoder.from_pretrained(tmp_path / "run", "cpu")
    encoder = trained.encoder
    assert isinstance(encoder, FoundationEncoder)
    assert not torch.equal(encoder.get_parameter("head.0.weight"), before)
    features = forward(encoder.network, to_tensor(pack.fetch(held_out(pack, SHORT)[0])))
    standardised = (features - encoder.mean) * encoder.scale
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(80), atol=0.01, rtol=0)
    torch.testing.assert_close(standardised.std(dim=0, correction=0), torch.ones(80), atol=0.01, rtol=0)


def test_views_are_not_contrasted(pack: Pack, config: ModelConfig, tmp_path: Path) -> None:
    training = replace(SHORT, auxiliary_losses=(ContrastiveConfig(),))
    with pytest.raises(ConfigError, match="must not contrast views for an encoder with a pretrained network"):
        train_autoencoder(pack, tmp_path / "run", config, training, console=QUIET)
    assert not (tmp_path / "run").exists()
