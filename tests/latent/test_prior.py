"""The latent prior: its arithmetic against closed forms, its file, and its use by a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fingerprints import mark
from tiny import normal, tiny_config, tiny_model
from torch import Tensor

from diffae.config import DiffusionConfig, PriorConfig, Sampling, to_dict
from diffae.errors import CheckpointError, ConfigError
from diffae.latent.prior import PRIOR, LatentPrior
from diffae.model import DiffusionAutoencoder
from diffae.networks.mlp import SkipMLP

D = 6
MEAN, STD = torch.linspace(-3, 3, D), torch.linspace(0.5, 2, D)


class GaussianNoise(SkipMLP):
    """Exact for z_norm ~ N(0, variance I): eps_hat = sqrt(1 - a) z_t / (a variance + 1 - a), or v."""

    def __init__(self, config: DiffusionConfig, variance: float) -> None:
        super().__init__(D, 4, 2)
        self.config, self.variance = config, variance

    def forward(self, z_t: Tensor, time: Tensor) -> Tensor:
        from diffae.diffusion.schedules import alpha_bar_of

        a = torch.from_numpy(alpha_bar_of(self.config))[time + 1].float()[:, None]
        eps = (1 - a).sqrt() * z_t / (a * self.variance + 1 - a)
        return eps if self.config.prediction == "eps" else (eps - (1 - a).sqrt() * z_t) / a.sqrt()


def gaussian(diffusion: DiffusionConfig, variance: float = 0.25) -> LatentPrior:
    return LatentPrior(PriorConfig(2, 4, diffusion=diffusion), GaussianNoise(diffusion, variance), MEAN, STD)


def random_prior(layers: int = 3) -> LatentPrior:
    torch.manual_seed(0)
    config = PriorConfig(layers, hidden_channels=8)
    return LatentPrior(config, SkipMLP(D, config.hidden_channels, config.layers), MEAN, STD)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "diffusion",
    [
        DiffusionConfig("constant"),
        DiffusionConfig("linear"),
        DiffusionConfig("constant", prediction="v"),
        DiffusionConfig("cosine", levels=200),
    ],
)
def test_samples_have_the_learnt_distribution(diffusion: DiffusionConfig) -> None:
    """With the exact noise of a Gaussian, DDIM ends at that Gaussian, un-normalised."""
    z = gaussian(diffusion).sample(4000, steps=diffusion.levels, generator=seeded())
    np.testing.assert_allclose(z.mean(0), MEAN, atol=0.06)
    np.testing.assert_allclose(z.std(0) / STD, 0.5, rtol=0.05)
    correlation = torch.corrcoef(z.T) - torch.eye(D)
    assert correlation.abs().max() < 0.06


def test_denormalise_inverts_normalise() -> None:
    prior = gaussian(DiffusionConfig("constant"))
    z = normal(50, D) * STD + MEAN
    torch.testing.assert_close(prior.denormalise(prior.normalise(z)), z)
    torch.testing.assert_close(prior.normalise(MEAN[None] + STD), torch.ones(1, D))


def test_truncation_draws_towards_the_mean() -> None:
    prior = random_prior()
    whole, half, none = (prior.sample(5, steps=4, truncation=t, generator=seeded()) for t in (1.0, 0.5, 0.0))
    torch.testing.assert_close(half - MEAN, (whole - MEAN) / 2)
    torch.testing.assert_close(none, MEAN.expand(5, -1))


def test_samples_depend_on_the_seed_and_not_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = random_prior()
    whole = prior.sample(7, steps=4, generator=seeded())
    monkeypatch.setattr("diffae.latent.prior._BATCH", 3)
    torch.testing.assert_close(prior.sample(7, steps=4, generator=seeded()), whole)
    assert (prior.sample(7, steps=4, generator=seeded(1)) - whole).abs().min() > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count is 0: must be at least 1"),
        ({"count": 2, "steps": 1001}, "steps is 1001"),
        ({"count": 2, "truncation": 1.5}, r"truncation is 1.5: must lie in \[0, 1\]"),
        ({"count": 2, "truncation": float("nan")}, "truncation is nan"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        random_prior().sample(**arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 1}, "layers is 1: must be at least 2"),
        ({"hidden_channels": 0}, "hidden_channels is 0"),
        ({"loss": "l2"}, "loss is 'l2': choose one of l1, mse"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PriorConfig(**settings)


# ---------------------------------------------------------------------- on disk


def test_saving_and_loading(tmp_path: Path) -> None:
    prior = random_prior(layers=4)
    prior.save(tmp_path, "fingerprint", training={"seed": 3})
    again = LatentPrior.load(tmp_path, mark("fingerprint"))
    assert again.config == prior.config
    torch.testing.assert_close(
        again.sample(3, steps=5, generator=seeded()), prior.sample(3, steps=5, generator=seeded())
    )
    assert [path.name for path in tmp_path.iterdir()] == [PRIOR]


def damaged(tmp_path: Path, **changes: object) -> None:
    from safetensors.torch import load_file, save_file

    random_prior().save(tmp_path, "mine")
    tensors = load_file(tmp_path / PRIOR)
    texts = {"diffae_prior": "1", "model": "mine", "config": json.dumps(to_dict(random_prior().config))}
    for name, value in changes.items():
        if isinstance(value, str):
            texts[name] = value
        else:
            tensors.pop(name)
    save_file(tensors, tmp_path / PRIOR, texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "theirs"}, "belongs to a model with fingerprint theirs, this one's is mine: train it again"),
        ({"diffae_prior": "0"}, "holds no prior"),
        ({"config": "{"}, "is damaged"),
        ({"config": '{"layers": 1}'}, "is damaged .layers is 1"),
        ({"mean": None}, "is damaged"),
        ({"network.layers.0.linear.weight": None}, "lacks tensor"),
    ],
)
def test_files_that_are_not_its_prior(tmp_path: Path, changes: dict, message: str) -> None:
    damaged(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        LatentPrior.load(tmp_path, mark("mine"))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no prior yet: make one with `diffae train-prior"):
        LatentPrior.load(tmp_path, mark("mine"))


# ---------------------------------------------------------------------- used by a model


def with_prior(folder: Path) -> DiffusionAutoencoder:
    model = tiny_model()
    model.prior = random_prior()
    model.save_pretrained(folder)
    return model


def test_a_model_loads_its_prior(tmp_path: Path) -> None:
    model = with_prior(tmp_path)
    again = DiffusionAutoencoder.from_pretrained(tmp_path, "cpu")
    few = Sampling(steps=3)
    x = model.sample(5, sampling=few, prior_steps=4, generator=seeded())
    assert x.shape == (5, 3, 16, 16)
    torch.testing.assert_close(again.sample(5, sampling=few, prior_steps=4, generator=seeded()), x)


def test_sampling_is_the_prior_then_the_decoder(tmp_path: Path) -> None:
    model, few, generator = with_prior(tmp_path), Sampling(steps=3), seeded()
    assert model.prior is not None
    z_sem = model.prior.sample(5, steps=4, truncation=0.5, generator=generator)
    x_T = torch.randn(5, 3, 16, 16, generator=generator)
    expected = model.decode(z_sem=z_sem, x_T=x_T, sampling=few)
    x = model.sample(5, sampling=few, prior_steps=4, truncation=0.5, generator=seeded())
    torch.testing.assert_close(x, expected)


def test_without_an_encoder_noise_is_decoded() -> None:
    model = tiny_model(tiny_config(z_sem_channels=0))
    x_T = torch.randn(3, 3, 16, 16, generator=seeded())
    few = Sampling(steps=3)
    torch.testing.assert_close(model.sample(3, sampling=few, generator=seeded()), model.decode(x_T=x_T, sampling=few))


def test_no_prior_yet(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    model = DiffusionAutoencoder.from_pretrained(tmp_path, "cpu")
    assert model.prior is None
    with pytest.raises(ConfigError, match="no latent prior to sample from: make one with `diffae train-prior`"):
        model.sample(2)


def test_another_models_prior_is_refused_when_it_is_used(tmp_path: Path) -> None:
    """Only then: a model that was trained further than its prior must still reconstruct."""
    with_prior(tmp_path / "a")
    tiny_model(seed=9).save_pretrained(tmp_path / "b")
    (tmp_path / "a" / PRIOR).rename(tmp_path / "b" / PRIOR)
    model = DiffusionAutoencoder.from_pretrained(tmp_path / "b", "cpu")
    with pytest.raises(CheckpointError, match="belongs to a model with fingerprint"):
        model.sample(2)
