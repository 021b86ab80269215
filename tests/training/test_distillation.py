"""Distillation: the target features, the loss, and which image has which features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from training_run import BASELINE, MODEL, TRAINING

from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError
from diffae.model import DiffusionAutoencoder
from diffae.training.autoencoder import AutoencoderTask, train_autoencoder
from diffae.training.auxiliary_losses.base import AuxiliaryBatch, ModelWithLosses
from diffae.training.auxiliary_losses.distillation import DistillationLoss, TargetFeatures
from diffae.training.settings import DistillationConfig

DISTILLED = replace(TRAINING, auxiliary_losses=(DistillationConfig(0.3),))
COUNT, SIZE, FURTHER = 40, 5, 2.0


def save(path: Path, features: np.ndarray) -> Path:
    np.save(path, features)
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    values = np.random.default_rng(1).normal(3.0, 2.0, (COUNT, SIZE)).astype(np.float32)
    values[:, 1] = 7.0
    return save(tmp_path / "features.npy", values)


def test_features_have_zero_mean_and_unit_variance(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.training.auxiliary_losses.distillation._BLOCK", 7)
    found = TargetFeatures(features, COUNT).of(np.arange(COUNT)).double().numpy()
    values = np.load(features).astype(np.float64)
    varied = [0, 2, 3, 4]
    expected = (values - values.mean(axis=0))[:, varied] / values.std(axis=0)[varied]
    np.testing.assert_allclose(found[:, varied], expected, atol=1e-6)
    assert (found[:, 1] == 0).all()  # a constant feature
    some = TargetFeatures(features, COUNT).of(np.array([9, 3]))
    np.testing.assert_array_equal(some, found[[9, 3]].astype(np.float32))
    assert TargetFeatures(features, COUNT).size == SIZE


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.zeros((3, 2), np.float32), r"float32 of shape \(3, 2\): they must be floating-point features of 4 images"),
        (np.zeros((4, 2, 1), np.float32), r"must be floating-point features of 4 images"),
        (np.zeros((4, 2), np.int64), r"are int64 of shape \(4, 2\)"),
        (np.ones((4, 2), np.float32), "or the same for all images"),
        (np.array([[0.0], [1.0], [np.nan], [2.0]]), "not finite"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, values: np.ndarray, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        TargetFeatures(save(tmp_path / "a.npy", values), 4)


def test_loss_is_the_error_of_a_linear_function_of_z_sem() -> None:
    torch.manual_seed(0)
    model = DiffusionAutoencoder(MODEL)
    networks = ModelWithLosses(model, DISTILLED, SIZE)
    [loss] = networks.losses
    assert isinstance(loss, DistillationLoss)
    assert not networks.needs_view
    x, other, target = torch.randn(3, 3, 16, 16), torch.randn(3, 3, 16, 16), torch.randn(3, SIZE)
    t = torch.zeros(3, dtype=torch.long)
    squared = [(loss.linear(model.call_encoder(images)) - target).square().mean() for images in (x, other)]
    output, further = networks(x, t, AuxiliaryBatch(x, target), x, other)
    assert further.item() == pytest.approx(0.3 * (squared[0] + squared[1]).item() / 2, rel=1e-5)
    torch.testing.assert_close(output, model(x, t, x), atol=1e-5, rtol=0)
    alone = networks(x, t, AuxiliaryBatch(x, target), x, None)[1]
    assert alone.item() == pytest.approx(0.3 * squared[0].item(), rel=1e-5)


class Recorder(nn.Module):
    """Records the features that networks are given."""

    def __init__(self) -> None:
        super().__init__()
        self.features: list[torch.Tensor | None] = []

    def forward(
        self,
        x_t: torch.Tensor,
        time: torch.Tensor,
        batch: AuxiliaryBatch,
        seen: torch.Tensor,
        other: torch.Tensor | None,
        known: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.features.append(batch.features)
        return torch.zeros_like(x_t), torch.tensor(FURTHER)


def test_each_image_has_its_own_features_in_its_part_of_the_batch(pack: Pack, features: Path, tmp_path: Path) -> None:
    targets, quiet = TargetFeatures(features, COUNT), Console(quiet=True)
    task = AutoencoderTask(DiffusionAutoencoder(MODEL), DISTILLED, pack, tmp_path, {}, quiet, targets)
    recorder = Recorder()
    batch = next(task.batches(0, 0, 1))
    losses = [loss.item() for loss in task.losses(recorder, batch, 0, torch.device("cpu"), 2)]
    given = [part for part in recorder.features if part is not None]
    assert [len(part) for part in given] == [4, 4]
    assert torch.equal(torch.cat(given), targets.of(batch.indices))
    assert min(losses) > FURTHER  # Eq. 6 for an output of zeros, plus the auxiliary loss


def test_distillation_needs_features_and_an_encoder(pack: Pack, features: Path, tmp_path: Path) -> None:
    for model, config, given in [
        (MODEL, DISTILLED, None),
        (MODEL, TRAINING, features),
        (BASELINE, DISTILLED, features),
    ]:
        rule = "distillation and features must be given together, for a model with an encoder"
        with pytest.raises(ConfigError, match=rf"auxiliary_losses is .*: {rule}"):
            train_autoencoder(pack, tmp_path / "run", model, config, features=given)
        assert not (tmp_path / "run").exists()
