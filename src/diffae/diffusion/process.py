"""The forward process and the identities between x_0, x_t, eps and v (paper Section 2; b = batch).

Scales come from a float64 schedule as float32 tensors (b, 1, ...), so that all formulas read as written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.settings import DiffusionConfig, Prediction, Weighting
from diffae.errors import require

MIN_SNR_GAMMA = 5.0


@dataclass(frozen=True)
class Scales:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), ready to multiply x_0 and eps."""

    signal: Tensor | float
    noise: Tensor | float

    @classmethod
    def at_level(cls, alpha_bar_t: float) -> Scales:
        """Those of one level for the whole batch, as Python floats: no transfer to the device."""
        return cls(math.sqrt(alpha_bar_t), math.sqrt(1 - alpha_bar_t))

    @classmethod
    def at(cls, alpha_bar: np.ndarray, t: Int[Tensor, " b"], dims: int) -> Scales:
        """Those of the levels t (b,), shaped (b, 1, ...) for tensors of `dims` dimensions."""
        table = torch.as_tensor(np.stack([np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)]), dtype=torch.float32)
        signal, noise = table.to(t.device, non_blocking=True)[:, t].view(2, -1, *[1] * (dims - 1))
        return cls(signal, noise)

    def add_noise(self, x_0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps."""
        return self.signal * x_0 + self.noise * eps

    def target(
        self, prediction: Prediction, x_0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """The network's target: eps (Eq. 6), or v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0."""
        return eps if prediction == "eps" else self.signal * eps - self.noise * x_0

    def eps_from_output(
        self, prediction: Prediction, output: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """The noise that the output implies; from v: eps = sqrt(1 - alpha_bar_t) x_t + sqrt(alpha_bar_t) v."""
        return output if prediction == "eps" else self.noise * x_t + self.signal * output

    def loss_weight(self, prediction: Prediction, weighting: Weighting) -> Tensor | float:
        """Weight of the squared error of the network's output.

        Min-SNR: min(SNR, 5) in terms of x_0, divided by the weight that the output's own error already carries
        (SNR for eps, SNR + 1 for v; Hang et al. 2023, Section 3.4).
        """
        if weighting == "uniform":
            return 1.0
        snr = torch.as_tensor((self.signal / self.noise) ** 2)
        return snr.clamp(max=MIN_SNR_GAMMA) / (snr if prediction == "eps" else snr + 1)


class DiffusionProcess:
    """The forward process of a model, and what its decoder's output means.

    Attributes:
        alpha_bar: (T + 1,) float64, `alpha_bar[0] = 1`.
        prediction: "eps" or "v".
    """

    def __init__(self, config: DiffusionConfig) -> None:
        self.alpha_bar = alpha_bar_of(config)
        self.prediction: Prediction = config.prediction

    @property
    def levels(self) -> int:
        """T, the number of noise levels."""
        return len(self.alpha_bar) - 1

    def scales(self, t: int | Int[Tensor, " b"], dims: int) -> Scales:
        """Scales at one level for the whole batch, or at levels (b,), for tensors of `dims` dimensions.

        Raises:
            ConfigError: a number t outside 1..T. Tensors are not checked: that would wait for the device.
        """
        if isinstance(t, Tensor):
            return Scales.at(self.alpha_bar, t, dims)
        require(1 <= t <= self.levels, "t", t, f"must lie in 1..{self.levels}")
        return Scales.at_level(self.alpha_bar[t])

    def loss(
        self,
        output: Float[Tensor, "b ..."],
        x_0: Float[Tensor, "b ..."],
        eps: Float[Tensor, "b ..."],
        scales: Scales,
        weighting: Weighting = "uniform",
    ) -> Float[Tensor, ""]:
        """Eq. 6: the mean of || eps_theta(x_t, t, z_sem) - eps ||^2 over all elements, or the same of v."""
        squared = (output.float() - scales.target(self.prediction, x_0, eps)).square()
        return (scales.loss_weight(self.prediction, weighting) * squared).mean()
