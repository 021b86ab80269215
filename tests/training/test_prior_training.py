"""Training of the latent prior: its loss, exact resuming, bad input."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from fingerprints import mark
from rich.console import Console
from safetensors.torch import load_file

from diffae.config import DiffusionConfig, PriorConfig
from diffae.errors import CheckpointError, ConfigError
from diffae.latent.prior import PRIOR, LatentPrior
from diffae.training import prior as prior_module
from diffae.training.autoencoder import mix
from diffae.training.logger import Logger
from diffae.training.prior import PriorTask, train_prior
from diffae.training.settings import TrainingConfig
from diffae.training.trainer import Trainer

MARK = mark("fingerprint")
CONFIG = PriorConfig(layers=3, hidden_channels=32)
TRAINING = TrainingConfig(
    images=640,
    batch_size=64,
    learning_rate=3e-3,
    weight_decay=0.01,
    save_every=320,
    validate_every=320,
    precision="float32",
)
QUIET = Console(quiet=True)


def two_clusters(count: int, seed: int = 0) -> np.ndarray:
    """z_sem at (+-2, 10) with a little noise, far from what an untrained prior draws."""
    rng = np.random.default_rng(seed)
    z = 0.1 * rng.standard_normal((count, 2)) + [0, 10]
    z[:, 0] += rng.choice([-2, 2], count)
    return z.astype(np.float32)


def trained(folder: Path, config: PriorConfig = CONFIG, training: TrainingConfig = TRAINING, **more: bool) -> bool:
    folder.mkdir(exist_ok=True)
    codes = two_clusters(500), two_clusters(50, seed=1)
    return train_prior(folder, MARK, *codes, config, training, console=QUIET, **more)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        PriorConfig(3, 32, "mse", DiffusionConfig("cosine", prediction="v")),
    ],
)
def test_it_learns_the_distribution(tmp_path: Path, config: PriorConfig) -> None:
    assert trained(
        tmp_path, config, dataclasses.replace(TRAINING, images=38_400, save_every=38_400, validate_every=38_400)
    )
    z = LatentPrior.load(tmp_path, MARK).sample(400, generator=torch.Generator().manual_seed(0))
    assert (z[:, 0].abs() - 2).abs().median() < 0.35
    assert 0.3 < (z[:, 0] > 0).float().mean() < 0.7
    assert (z[:, 1] - 10).abs().median() < 0.25


def test_the_loss_is_of_the_noise_in_normalised_codes(tmp_path: Path) -> None:
    codes = two_clusters(500)
    task = PriorTask(CONFIG, TRAINING, codes, codes[:50], tmp_path, MARK)
    np.testing.assert_allclose(task.z_norm, (codes - codes.mean(0)) / codes.std(0, ddof=1), rtol=1e-4, atol=1e-4)
    for name in ("weight", "bias"):
        torch.nn.init.zeros_(task.networks.get_parameter(f"layers.2.{name}"))
    batch = next(task.batches(0, 0, 1))
    generator = torch.Generator().manual_seed(mix(TRAINING.seed, 0))
    for high in (len(codes), CONFIG.diffusion.levels):  # codes and levels are drawn first
        torch.randint(high, (TRAINING.batch_size,), generator=generator)
    eps = torch.randn((TRAINING.batch_size, 2), generator=generator)
    absolute = next(task.losses(task.networks, batch, 0, torch.device("cpu"), 1))
    torch.testing.assert_close(absolute, eps.abs().mean())  # of a network that predicts 0
    task.config = dataclasses.replace(CONFIG, loss="mse")
    squared = next(task.losses(task.networks, batch, 0, torch.device("cpu"), 1))
    torch.testing.assert_close(squared, eps.square().mean())


def test_processes_share_a_batch(tmp_path: Path) -> None:
    """Together, two processes see the same batch as one."""
    codes = two_clusters(500)
    task = PriorTask(CONFIG, TRAINING, codes, codes[:50], tmp_path, MARK)
    parts = [
        next(task.losses(task.networks, next(task.batches(0, r, n)), 5, torch.device("cpu"), 1))
        for r, n in ((0, 1), (0, 2), (1, 2))
    ]
    torch.testing.assert_close((parts[1] + parts[2]) / 2, parts[0])


def test_resuming_ends_where_an_uninterrupted_training_does(tmp_path: Path) -> None:
    longer = dataclasses.replace(TRAINING, images=1280)
    assert trained(tmp_path / "whole", training=longer)
    assert trained(tmp_path / "parts")
    assert trained(tmp_path / "parts", training=longer, resume=True)
    whole, parts = (load_file(tmp_path / name / PRIOR) for name in ("whole", "parts"))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, msg=name)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "prior" / "metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines if "val_loss" in line] == [320, 640, 960, 1280]


def test_weight_decay_is_decoupled(tmp_path: Path) -> None:
    """AdamW: weights without gradient shrink by 1 - rate x decay in a step; Adam leaves them."""
    found = {}
    for decay in (0.0, 0.5):
        training = dataclasses.replace(TRAINING, weight_decay=decay, images=64, ema_decay=0.0, ema_warmup=False)
        task = PriorTask(CONFIG, training, two_clusters(50), two_clusters(50), tmp_path, MARK)
        weight = task.networks.get_parameter("layers.0.linear.weight")
        before = weight.detach().clone()
        task.losses = lambda networks, *_: iter([0 * sum(p.sum() for p in networks.parameters())])  # type: ignore[method-assign]
        trainer = Trainer(task, training, tmp_path, Logger(tmp_path, 64, QUIET), Accelerator(cpu=True))
        trainer.take_step(next(task.batches(0, 0, 1)))
        found[decay] = (weight / before).detach()
    torch.testing.assert_close(found[0.0], torch.ones_like(found[0.0]))
    torch.testing.assert_close(found[0.5], torch.full_like(found[0.5], 1 - 3e-3 * 0.5))


def test_constant_numbers_do_not_divide_by_zero(tmp_path: Path) -> None:
    codes = two_clusters(100)
    codes[:, 1] = 7
    task = PriorTask(CONFIG, TRAINING, codes, codes[:20], tmp_path, MARK)
    assert torch.isfinite(task.z_norm).all()
    z = task.prior(task.networks).sample(10, steps=5)
    assert torch.isfinite(z).all()
    np.testing.assert_allclose(z[:, 1], 7, atol=1e-3)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no prior yet"):
        trained(tmp_path / "a", resume=True)
    assert trained(tmp_path / "a")
    with pytest.raises(CheckpointError, match="has a prior already: continue it with --resume, or replace it by"):
        trained(tmp_path / "a")
    with pytest.raises(CheckpointError, match="was trained with layers = 3, not 4: resume it unchanged"):
        trained(tmp_path / "a", PriorConfig(4, 32), resume=True)
    with pytest.raises(CheckpointError, match=r"was trained with weight_decay = 0\.01, not 0\.0"):
        trained(tmp_path / "a", training=dataclasses.replace(TRAINING, weight_decay=0.0), resume=True)
    assert trained(tmp_path / "a", PriorConfig(4, 32), overwrite=True)
    assert LatentPrior.load(tmp_path / "a", MARK).config.layers == 4
    with pytest.raises(ConfigError, match="weight_decay is -1"):
        TrainingConfig(weight_decay=-1)


def test_a_prior_not_trained_here_cannot_be_resumed(tmp_path: Path) -> None:
    task = PriorTask(CONFIG, TRAINING, two_clusters(50), two_clusters(50), tmp_path, MARK)
    task.prior(task.networks).save(tmp_path, MARK)
    with pytest.raises(CheckpointError, match="does not say how it was trained"):
        prior_module.settings_of(tmp_path, MARK)
