"""Cases of the parity data: weights and inputs made by rule, and what the published implementation computes of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffae.config import Sampling
from diffae.diffusion.process import Scales
from diffae.model import DiffusionAutoencoder

ONE_CALL = 1e-4
"""Largest difference of one network call, relative to the largest absolute value."""

TRAJECTORY = 1e-3
"""The same of a trajectory of 10 or 20 steps, whose clipping amplifies rounding."""


def parameter(name: str, shape: list[int]) -> np.ndarray:
    """The rule by which both implementations make the weight called `name` in published checkpoints."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    v = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        return v / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
    if name.endswith("weight"):
        return 1 + np.float32(0.1) * v
    return np.float32(0.1) * v


@dataclass(frozen=True)
class ParityCase:
    """A network with weights by rule, and numbers to compare with."""

    about: Mapping[str, Any]
    """Its architecture, the names and shapes of its weights, the batch size, and the stride of stored images."""
    expected: Mapping[str, np.ndarray]
    """Outputs of the published implementation; images as `output[..., ::stride, ::stride]`."""

    def weights(self) -> dict[str, Tensor]:
        """All weights, by their published names."""
        return {name: torch.from_numpy(parameter(name, shape)) for name, shape in self.about["parameters"].items()}

    def images(self) -> Tensor:
        """x_0 (b, 3, size, size), uniform in [-1, 1]."""
        return torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, self._shape).astype(np.float32))

    def noise(self) -> Tensor:
        """As x_0, from N(0, I)."""
        return torch.from_numpy(np.random.default_rng(2).standard_normal(self._shape).astype(np.float32))

    def z_T(self) -> Tensor:
        """(b, d) from N(0, I), for a latent prior."""
        shape = self.about["batch"], self.about["config"]["z_sem_channels"]
        return torch.from_numpy(np.random.default_rng(3).standard_normal(shape).astype(np.float32))

    def levels(self) -> Tensor:
        """Our levels 1..T, one for each image; the published index counts from 0."""
        return torch.from_numpy(self.expected["t"]).long().expand(self.about["batch"]) + 1

    @property
    def _shape(self) -> tuple[int, ...]:
        size = self.about["config"]["image_size"]
        return self.about["batch"], 3, size, size

    def check(self, key: str, output: Tensor, tolerance: float) -> None:
        """Assert that an output is the expected one, up to a fraction of its largest absolute value."""
        stride = self.about["stride"] if output.dim() == 4 else 1
        got = output[..., ::stride, ::stride].numpy() if output.dim() == 4 else output.numpy()
        expected = self.expected[key]
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max(), key


def write_published(case: ParityCase, path: Path) -> Path:
    """Write a checkpoint in the published format, with the case's weights as EMA weights."""
    size = case.about["config"]["image_size"]
    state = {f"ema_model.{name}": tensor for name, tensor in case.weights().items()}
    state["model.time_embed.0.weight"] = torch.zeros(1)  # raw weights are there too, and not read
    state["x_T"] = torch.zeros(1, 3, size, size)
    torch.save({"state_dict": state, "global_step": 7}, path)
    return path


def check_calls(case: ParityCase, model: DiffusionAutoencoder) -> Tensor | None:
    """Compare z_sem, eps and the loss of one network call; returns z_sem."""
    x_0, noise, z_sem = case.images(), case.noise(), None
    if model.encoder is not None:
        z_sem = model.encode_semantic(x_0)
        case.check("z_sem", z_sem, ONE_CALL)
    t = case.levels()
    eps_hat = model.predict_noise(Scales.at(model.alpha_bar, t, 4).add_noise(x_0, noise), t, z_sem)
    case.check("eps", eps_hat, ONE_CALL)
    np.testing.assert_allclose(eps_hat.abs().max(), case.expected["eps_absmax"], rtol=ONE_CALL)
    if "loss" in case.expected:
        loss = (eps_hat - noise).square().mean(dim=(1, 2, 3))
        np.testing.assert_allclose(loss, case.expected["loss"], rtol=ONE_CALL)
    return z_sem


def check_trajectories(case: ParityCase, model: DiffusionAutoencoder, z_sem: Tensor | None) -> None:
    """Compare encoding and decoding in 10 and 20 steps, as far as the case has them."""
    x_0, noise = case.images(), case.noise()
    for steps in (10, 20):
        official = Sampling.official(steps)
        if f"invert_T{steps}" in case.expected:
            code = model.encode(x_0, official)
            assert code.x_T is not None
            case.check(f"invert_T{steps}", code.x_T, TRAJECTORY)
            case.check(f"decode_inverted_T{steps}", model.decode(code, sampling=official), TRAJECTORY)
        if f"decode_noise_T{steps}" in case.expected:
            decoded = model.decode(z_sem=z_sem, x_T=noise, sampling=official)
            case.check(f"decode_noise_T{steps}", decoded, TRAJECTORY)
