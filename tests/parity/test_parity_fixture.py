"""Networks, schedules, timesteps and trajectories compute what the published implementation does, in any clone.

The numbers are in tests/fixtures; `tests/compat/test_parity.py` also covers the paper's large networks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity_cases import ONE_CALL, TRAJECTORY, ParityCase, check_calls, check_trajectories, write_published

from diffae.compat.original.names import latent_names
from diffae.config import DiffusionConfig, PriorConfig
from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.settings import Schedule
from diffae.diffusion.solvers import DDIM
from diffae.diffusion.timesteps import levels_of
from diffae.latent.prior import LatentPrior
from diffae.model import DiffusionAutoencoder
from diffae.networks.mlp import SkipMLP

FIXTURES = Path(__file__).parents[1] / "fixtures"
PUBLISHED_SCHEDULES: dict[str, Schedule] = {"linear": "linear", "cosine": "cosine", "const0.008": "constant"}


@pytest.fixture(scope="module")
def about() -> dict[str, Any]:
    return json.loads((FIXTURES / "parity.json").read_text())


@pytest.fixture(scope="module")
def numbers() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "parity.npz") as arrays:
        return dict(arrays)


def part(numbers: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays of one case, without its name."""
    found = {key.removeprefix(f"{name}/"): values for key, values in numbers.items() if key.startswith(f"{name}/")}
    assert found
    return found


@pytest.mark.parametrize("name", ["tiny", "tiny2", "ddim_tiny"])
@torch.inference_mode()
def test_images(name: str, about: dict[str, Any], numbers: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Weights by rule, written as a published checkpoint and read back: one network call, encoding and decoding."""
    case = ParityCase(about[name], part(numbers, name))
    path = write_published(case, tmp_path / "last.ckpt")
    model = DiffusionAutoencoder.from_official(path, case.about["config"].get("num_heads", 1), device="cpu")
    assert model.config.has_encoder == (name != "ddim_tiny")
    assert "decode_noise_T10" in case.expected
    check_trajectories(case, model, check_calls(case, model))


@torch.inference_mode()
def test_latent_prior(about: dict[str, Any], numbers: dict[str, np.ndarray]) -> None:
    case = ParityCase(about["latent_tiny"], part(numbers, "latent_tiny"))
    d, hidden, layers = (case.about["config"][name] for name in ("z_sem_channels", "hidden_channels", "layers"))
    network, weights = SkipMLP(d, hidden, layers), case.weights()
    names = latent_names(d, hidden, layers)
    assert set(weights) == set(names)
    network.load_state_dict({ours.ours: weights[theirs] for theirs, ours in names.items()})
    prior = LatentPrior(PriorConfig(layers, hidden), network, torch.zeros(d), torch.ones(d))
    case.check("eps", network(case.z_T(), case.levels() - 1), ONE_CALL)
    z_0 = DDIM().decode(prior.predict_noise, case.z_T(), levels_of(10, "leading", 1000), prior.process.alpha_bar)
    case.check("decode_T10", z_0, TRAJECTORY)


@pytest.mark.parametrize("levels", [1000, 100])
@pytest.mark.parametrize("published", PUBLISHED_SCHEDULES)
def test_schedules(published: str, levels: int, numbers: dict[str, np.ndarray]) -> None:
    alpha_bar = alpha_bar_of(DiffusionConfig(PUBLISHED_SCHEDULES[published], levels))
    expected = part(numbers, "schedules")[f"{published}_{levels}_alpha_bar"]
    np.testing.assert_allclose(alpha_bar[10::10], expected, rtol=1e-10)


@pytest.mark.parametrize("steps", [5, 10, 20, 50, 100, 125, 200, 250, 500, 1000])
def test_timesteps(steps: int, numbers: dict[str, np.ndarray]) -> None:
    expected = part(numbers, "schedules")[f"ddim_timesteps_{steps}"]
    assert [t - 1 for t in levels_of(steps, "leading", 1000)[1:]] == sorted(expected.tolist())


def test_fixture_is_small() -> None:
    assert sum((FIXTURES / name).stat().st_size for name in ("parity.npz", "parity.json")) < 300_000
