"""Auxiliary losses in a training run: their effect, resuming, what is saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from custom_parts import SizeLossConfig
from safetensors.torch import load_file
from torch import Tensor
from training_run import BASELINE, MODEL, TRAINING

from diffae.data.pack import Pack
from diffae.model import DiffusionAutoencoder, DiffusionModule
from diffae.training.autoencoder import train_autoencoder
from diffae.training.auxiliary_losses.base import AuxiliaryBatch, ModelWithLosses, prediction_error
from diffae.training.settings import ContrastiveConfig, DistillationConfig, HOGConfig, TrainingConfig

SHORT = replace(TRAINING, images=24, validate_every=96, save_every=96)
LOSSES = (ContrastiveConfig(0.1), HOGConfig(0.3), DistillationConfig(0.3), SizeLossConfig(0.5))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "features.npy"
    np.save(path, np.random.default_rng(1).normal(3.0, 2.0, (40, 5)).astype(np.float32))
    return path


def trained(pack: Pack, run: Path, config: TrainingConfig, features: Path, **more: Any) -> dict[str, Tensor]:
    given = features if config.distils else None
    assert train_autoencoder(pack, run, MODEL, config, features=given, **more)
    return load_file(run / "model.safetensors")


@pytest.fixture(scope="module")
def without(pack: Pack, features: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of a run without auxiliary losses."""
    torch.set_num_threads(1)
    return trained(pack, tmp_path_factory.mktemp("runs") / "without", SHORT, features)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_each_loss_changes_the_encoder_and_leaves_nothing_else(
    pack: Pack, features: Path, tmp_path: Path, without: dict[str, Tensor], loss: Any
) -> None:
    weights = trained(pack, tmp_path / "run", replace(SHORT, auxiliary_losses=(loss,)), features)
    assert weights.keys() == without.keys() == DiffusionModule(MODEL).state_dict().keys()
    assert not torch.allclose(weights["encoder.out.weight"], without["encoder.out.weight"], atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_run_with_all_losses_is_resumed(pack: Pack, features: Path, tmp_path: Path, optimizer: Any) -> None:
    short = replace(SHORT, auxiliary_losses=LOSSES, optimizer=optimizer)
    longer = replace(short, images=56)
    trained(pack, tmp_path / "parts", short, features)
    resumed = trained(pack, tmp_path / "parts", longer, features, resume=True)
    at_once = trained(pack, tmp_path / "at once", longer, features)
    assert resumed.keys() == at_once.keys()
    for name, tensor in at_once.items():
        assert torch.equal(resumed[name], tensor), name


def test_without_an_encoder_there_are_no_auxiliary_losses(pack: Pack, tmp_path: Path) -> None:
    config = replace(SHORT, auxiliary_losses=(ContrastiveConfig(0.1),))
    assert train_autoencoder(pack, tmp_path / "run", BASELINE, config)
    assert not any(name.startswith("losses") for name in load_file(tmp_path / "run" / "training/state.safetensors"))


def test_losses_are_weighted_and_added() -> None:
    torch.manual_seed(0)
    model = DiffusionAutoencoder(MODEL)
    config = TrainingConfig(auxiliary_losses=(SizeLossConfig(0.5), SizeLossConfig(0.25), HOGConfig(0.1)))
    networks = ModelWithLosses(model, config, 0)
    assert not networks.needs_view
    x, t = torch.randn(3, 3, 16, 16).clamp(-1, 1), torch.tensor([0, 5, 9])
    z_sem, batch = model.call_encoder(x), AuxiliaryBatch(x, None)
    output, further = networks(x, t, batch, batch.images, None)
    torch.testing.assert_close(further, 0.75 * z_sem.square().mean() + 0.1 * networks.losses[2](z_sem, batch))
    torch.testing.assert_close(output, model.call_decoder(x, t, z_sem))
    with_view = ModelWithLosses(model, replace(config, auxiliary_losses=(ContrastiveConfig(),)), 0)
    assert with_view.needs_view
    torch.testing.assert_close(with_view(x, t, batch, x, x.flip(3))[0], output)  # that of the first view


def test_prediction_error_repeats_targets_for_second_views() -> None:
    predicted, target = torch.tensor([[1.0], [2.0], [3.0], [5.0]]), torch.tensor([[0.0], [1.0]])
    assert prediction_error(predicted[:2], target).item() == pytest.approx((1 + 1) / 2)
    assert prediction_error(predicted, target).item() == pytest.approx((1 + 1 + 9 + 16) / 4)
