"""A teacher's vectors: what z_sem is to tell of them, of which images, and what they leave of a training run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from training_run import MODEL, TRAINING

from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.training.autoencoder import AutoencoderTask, train_autoencoder
from diffae.training.auxiliary_losses.distillation import Teacher
from diffae.training.auxiliary_losses.guided import GuidedNetworks

TAUGHT = dataclasses.replace(TRAINING, teaching=0.3)
COUNT, SIZE, FURTHER = 40, 5, 2.0


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    return Pack.from_arrays([images], tmp_path / "noise.pack")


def save(path: Path, vectors: np.ndarray) -> Path:
    np.save(path, vectors)
    return path


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    values = np.random.default_rng(1).normal(3.0, 2.0, (COUNT, SIZE)).astype(np.float32)
    values[:, 1] = 7.0
    return save(tmp_path / "vectors.npy", values)


def test_lessons_are_vectors_of_zero_mean_and_unit_variance(vectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.training.auxiliary_losses.distillation._BLOCK", 7)
    lessons = Teacher(vectors, COUNT).lesson(np.arange(COUNT)).double().numpy()
    values = np.load(vectors).astype(np.float64)
    varied = [0, 2, 3, 4]
    expected = (values - values.mean(axis=0))[:, varied] / values.std(axis=0)[varied]
    np.testing.assert_allclose(lessons[:, varied], expected, atol=1e-6)
    assert (lessons[:, 1] == 0).all()  # what never differs
    np.testing.assert_array_equal(Teacher(vectors, COUNT).lesson(np.array([9, 3])), lessons[[9, 3]].astype(np.float32))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.zeros((3, 2), np.float32), r"float32 of shape \(3, 2\): they must be floating-point vectors of 4 images"),
        (np.zeros((4, 2, 1), np.float32), r"must be floating-point vectors of 4 images"),
        (np.zeros((4, 2), np.int64), r"are int64 of shape \(4, 2\)"),
        (np.ones((4, 2), np.float32), "alike for all images"),
        (np.array([[0.0], [1.0], [np.nan], [2.0]]), "not finite"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, values: np.ndarray, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        Teacher(save(tmp_path / "a.npy", values), 4)


def test_the_error_is_that_of_a_linear_function_of_z_sem_of_both_views() -> None:
    torch.manual_seed(0)
    autoencoder = AutoencoderNetworks(MODEL.network).eval()
    networks = GuidedNetworks(autoencoder, MODEL.network, TAUGHT, SIZE)
    x_0, other, lesson = torch.randn(3, 3, 16, 16), torch.randn(3, 3, 16, 16), torch.randn(3, SIZE)
    t = torch.zeros(3, dtype=torch.long)
    assert autoencoder.encoder is not None
    assert networks.retelling is not None
    squared = [(networks.retelling(autoencoder.encoder(x)) - lesson).square().mean() for x in (x_0, other)]
    output, further = networks(x_0, t, x_0, other, lesson)
    assert further.item() == pytest.approx(0.3 * (squared[0] + squared[1]).item() / 2, rel=1e-5)
    assert torch.allclose(output, autoencoder(x_0, t, x_0), atol=1e-5)
    assert networks(x_0, t, x_0, None, lesson)[1].item() == pytest.approx(0.3 * squared[0].item(), rel=1e-5)


class Listening(nn.Module):
    """Keeps the lessons that the networks are given."""

    def __init__(self) -> None:
        super().__init__()
        self.lessons: list[torch.Tensor] = []

    def forward(
        self, x_t: torch.Tensor, time: torch.Tensor, x_0: torch.Tensor, other: torch.Tensor, lesson: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.lessons.append(lesson)
        return torch.zeros_like(x_t), torch.tensor(FURTHER)


def test_each_image_has_its_own_lesson_in_its_part_of_the_batch(pack: Pack, vectors: Path, tmp_path: Path) -> None:
    task = AutoencoderTask(MODEL, TAUGHT, pack, tmp_path, {}, Console(quiet=True), Teacher(vectors, COUNT))
    listening = Listening()
    batch = next(task.batches(0, 0, 1))
    with_lessons = [loss.item() for loss in task.losses(listening, batch, 0, torch.device("cpu"), 2)]
    assert [len(lesson) for lesson in listening.lessons] == [4, 4]
    assert torch.equal(torch.cat(listening.lessons), Teacher(vectors, COUNT).lesson(batch.indices))
    assert min(with_lessons) > FURTHER  # the loss of Eq. 6, of an output of zeros, and the further losses


@pytest.mark.parametrize("contrast", [0.0, 0.1])
def test_training_with_a_teacher(pack: Pack, vectors: Path, tmp_path: Path, contrast: float) -> None:
    """It changes the encoder's weights, is resumed, and its linear function is not in the model."""
    config = dataclasses.replace(TAUGHT, contrast=contrast)
    train_autoencoder(pack, tmp_path / "without", MODEL, dataclasses.replace(config, teaching=0))
    train_autoencoder(pack, tmp_path / "with", MODEL, config, vectors=vectors)
    without, trained = (load_file(tmp_path / run / "model.safetensors") for run in ("without", "with"))
    assert trained.keys() == without.keys() == AutoencoderNetworks(MODEL.network).state_dict().keys()
    assert not torch.allclose(trained["encoder.out.weight"], without["encoder.out.weight"], atol=1e-4)
    longer = dataclasses.replace(config, images=2 * config.images)
    train_autoencoder(pack, tmp_path / "with", MODEL, longer, vectors=vectors, resume=True)
    train_autoencoder(pack, tmp_path / "at once", MODEL, longer, vectors=vectors)
    resumed, at_once = (load_file(tmp_path / run / "model.safetensors") for run in ("with", "at once"))
    assert all(torch.equal(resumed[name], at_once[name]) for name in at_once)


def test_teaching_needs_vectors_and_an_encoder(pack: Pack, vectors: Path, tmp_path: Path) -> None:
    baseline = dataclasses.replace(MODEL, network=dataclasses.replace(MODEL.network, z_sem_channels=0))
    for model, config, given in [(MODEL, TAUGHT, None), (MODEL, TRAINING, vectors), (baseline, TAUGHT, vectors)]:
        with pytest.raises(ConfigError, match="teaching is"):
            train_autoencoder(pack, tmp_path / "run", model, config, vectors=given)
        assert not (tmp_path / "run").exists()
