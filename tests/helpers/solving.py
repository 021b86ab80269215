"""Solvers and inversions as functions, for denoisers that do not depend on the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from diffae.diffusion.bdia import BDIA
from diffae.diffusion.inversion import ExplicitInversion, OfficialInversion, PredictNoiseOf
from diffae.diffusion.solvers import DDIM, DPMSolverPP2M, PredictNoise, StepCallback

decode = DDIM().decode
decode_2m = DPMSolverPP2M().decode


def for_all(predict_noise: PredictNoise) -> PredictNoiseOf:
    """A denoiser with the signature that inversions need."""
    return lambda x, t, _rows: predict_noise(x, t)


def _encoder(method: ExplicitInversion | OfficialInversion, clipped: bool) -> Callable[..., Tensor]:
    def encode(
        eps: PredictNoise, x_0: Tensor, levels: Sequence[int], alpha_bar: np.ndarray, *, clip: bool = clipped
    ) -> Tensor:
        return method.encode(for_all(eps), x_0, levels, alpha_bar, clip=clip).x_T

    return encode


encode_explicit = _encoder(ExplicitInversion(), clipped=False)
encode_official = _encoder(OfficialInversion(), clipped=True)


def encode_pair(eps: PredictNoise, x_0: Tensor, levels: Sequence[int], alpha_bar: np.ndarray) -> tuple[Tensor, Tensor]:
    """The two states of BDIA's code."""
    found = BDIA().encode(for_all(eps), x_0, levels, alpha_bar)
    assert found.x_below is not None
    assert found.calls.tolist() == [len(levels) - 1] * len(x_0)
    return found.x_T, found.x_below


def decode_pair(
    eps: PredictNoise,
    states: tuple[Tensor, Tensor],
    levels: Sequence[int],
    alpha_bar: np.ndarray,
    callback: StepCallback | None = None,
) -> Tensor:
    """BDIA's decoding of its two states."""
    return BDIA().decode(eps, states, levels, alpha_bar, callback=callback)
