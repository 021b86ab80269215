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

from diffae.config import Prediction, Weighting

MIN_SNR_GAMMA = 5.0


@dataclass(frozen=True)
class Scales:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), ready to multiply x_0 and eps."""

    signal: Tensor | float
    noise: Tensor | float

    @classmethod
    def at_level(cls, alpha_bar_t: float) -> Scales:
        """Those of one level for the whole batch: plain numbers, which no device waits for."""
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
        """What the network is asked for: eps (Eq. 6), or v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0."""
        return eps if prediction == "eps" else self.signal * eps - self.noise * x_0

    def eps_from_output(
        self, prediction: Prediction, output: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """The noise that the output implies; from v: eps = sqrt(1 - alpha_bar_t) x_t + sqrt(alpha_bar_t) v."""
        return output if prediction == "eps" else self.noise * x_t + self.signal * output

    def loss_weight(self, prediction: Prediction, weighting: Weighting) -> Tensor | float:
        """Weight of the squared error of the network's output.

        Min-SNR: min(SNR, 5) in terms of x_0, divided by what the output's own error already weighs it with
        (SNR for eps, SNR + 1 for v; Hang et al. 2023, Section 3.4).
        """
        if weighting == "uniform":
            return 1.0
        snr = torch.as_tensor((self.signal / self.noise) ** 2)
        return snr.clamp(max=MIN_SNR_GAMMA) / (snr if prediction == "eps" else snr + 1)
