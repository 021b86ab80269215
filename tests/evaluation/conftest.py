"""A tiny model with everything an evaluation can be given, and tiny counts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_config, tiny_model
from torch import Tensor, nn

from diffae.config import PriorConfig, Sampling
from diffae.data.pack import Pack
from diffae.evaluation import context as contexts
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.material import Images
from diffae.evaluation.results import Result
from diffae.evaluation.task import counts_of
from diffae.evaluation.tasks import built_in, conditional
from diffae.latent.prior import LatentPrior
from diffae.networks.mlp import SkipMLP

TINY_COUNTS = (
    "reconstructed=3", "denoised=2", "pairs=2", "varied=3", "variations=2", "distribution=24", "labelled=60",
    "tested=40", "outliers=8", "detected=16", "detected_steps=1,2", "edited=1", "classes=1", "class_steps=2",
    "learnt=20", "baseline_images=16", "detector_images=16", "rounds=1", "draws=2", "capacities=2,4",
    "capacity_images=16", "known=120",
)  # fmt: skip


class Colours(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(dim=(2, 3)), x


class NormalPrior(LatentPrior):
    """Knows the exact noise in z_t where z_norm is N(0, I)."""

    def predict_noise(self, z_t: Tensor, t: int) -> Tensor:
        return float(1 - self.process.alpha_bar[t]) ** 0.5 * z_t


def images(folder: Path, name: str, count: int, seed: int) -> Images:
    """Random pictures, half of them red, labelled so."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (count, 16, 16, 3)).astype(np.uint8)
    red = (np.arange(count) % 2).astype(float)
    pixels[red == 1, ..., 0] += 100
    return Images(Pack.from_arrays([pixels], folder / name), np.arange(count), {"red": red})


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluationContext:
    monkeypatch.setattr(contexts, "STEPS", (1, 2))
    monkeypatch.setattr(conditional, "EXAMPLES", 20)
    model = tiny_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Colours(), torch.zeros(1, 3, 16, 16)), str(tmp_path / "colours.pt"))
    network = FeatureNetwork.open(tmp_path / "colours.pt")
    train, test = images(tmp_path, "train.pack", 120, 0), images(tmp_path, "test.pack", 48, 1)
    z_sem = model.encode_semantic(train.tensor())
    model.prior = NormalPrior(PriorConfig(2, 8), SkipMLP(6, 8, 2), z_sem.mean(0), z_sem.std(0))
    return EvaluationContext(
        model, train, test, tmp_path / "report", "run", features=network, perceptual=network, identity=network,
        ddim=tiny_model(tiny_config(z_sem_channels=0)), sampling=Sampling(2, inversion="explicit"),
    )  # fmt: skip


@pytest.fixture
def counts() -> dict[str, Any]:
    """Of each built-in task, as few as possible."""
    return counts_of(built_in().values(), changes=TINY_COUNTS)


@pytest.fixture
def run(context: EvaluationContext, counts: dict[str, Any]) -> Callable[..., Result]:
    """Runs a task by name, with tiny counts, on the context or on another."""
    return lambda name, other=None: built_in()[name].run(other or context, counts[name])
