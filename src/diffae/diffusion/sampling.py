"""Encoding and decoding as `Sampling` says: the choice among solvers, inversions and the pair mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffae.config import Sampling
from diffae.diffusion import bdia as pairs
from diffae.diffusion import inversion, solvers
from diffae.diffusion.timesteps import levels_of
from diffae.errors import ConfigError, DataError


@contextmanager
def ieee_float32() -> Iterator[None]:
    """float32 means float32 in here: no TF32, whose 10 bits would be the accuracy of every inversion."""
    backends = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # pyright: ignore[reportAttributeAccessIssue]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@dataclass
class Encoded:
    """A stochastic code, and what is known of it."""

    x_T: Tensor
    """As x_0."""
    calls: Int[Tensor, " b"]
    """Network calls spent on each image."""
    residual: Float[Tensor, " b"] | None = None
    """Of exact inversion: largest over the steps, root mean square, images in [-1, 1]."""
    x_below: Tensor | None = None
    """Of the pair mode: the state one step below x_T."""


@ieee_float32()
def encode(predict_noise: inversion.PredictNoiseOf, x_0: Tensor, alpha_bar: np.ndarray, sampling: Sampling) -> Encoded:
    """x_0 to the stochastic code that `decode`, with the same settings, turns back into it.

    Raises:
        ConfigError: more steps than levels, or a decoder that has no inverse.
    """
    require_inverse(sampling)
    levels = levels_of(sampling.steps, sampling.grid, len(alpha_bar) - 1)
    if sampling.inversion == "exact":
        limits = {"tolerance": sampling.tolerance, "max_iterations": sampling.max_iterations}
        found = inversion.encode_exact(predict_noise, x_0, levels, alpha_bar, **limits)
        return Encoded(found.x_T, found.calls, found.residual)
    rows = torch.arange(len(x_0), device=x_0.device)
    calls = torch.full_like(rows, sampling.steps)

    def predict(x: Tensor, t: int) -> Tensor:
        return predict_noise(x, t, rows)

    if sampling.inversion == "pair":
        x_T, x_below = pairs.encode_pair(predict, x_0, levels, alpha_bar)
        return Encoded(x_T, calls, x_below=x_below)
    reverse = solvers.encode_official if sampling.inversion == "official" else solvers.encode_explicit
    return Encoded(reverse(predict, x_0, levels, alpha_bar, clip=sampling.clip_x0), calls)


def require_inverse(sampling: Sampling) -> None:
    """Raise `ConfigError` where these settings decode but cannot encode."""
    name, remedy = sampling.inversion, 'encode with solver="ddim", precision="float32"'
    if sampling.solver != "ddim":
        rule = "each of its steps uses the one before, so that none can be undone by itself"
        raise ConfigError(f"solver is {sampling.solver!r}: has no inverse, {rule}; {remedy}")
    if sampling.precision == "bfloat16" and name in ("exact", "pair"):
        raise ConfigError(f"precision is 'bfloat16': too coarse for inversion={name!r}; {remedy}, and decode with it")


@ieee_float32()
def decode(
    predict_noise: solvers.PredictNoise,
    x_T: Tensor,
    x_below: Tensor | None,
    alpha_bar: np.ndarray,
    sampling: Sampling,
    watch: solvers.Watch | None = None,
) -> Tensor:
    """x_T to x_0; with the state below it, by the steps of the pair mode.

    Raises:
        ConfigError: more steps than levels.
        DataError: a pair of states, for settings of another mode.
    """
    levels = levels_of(sampling.steps, sampling.grid, len(alpha_bar) - 1)
    if x_below is not None:
        if sampling.inversion != "pair":
            rule = "made with inversion='pair', and must be decoded with the same sampling"
            raise DataError(f"x_below is given, inversion is {sampling.inversion!r}: the code was {rule}")
        return pairs.decode_pair(predict_noise, x_T, x_below, levels, alpha_bar, watch=watch)
    solve = solvers.decode if sampling.solver == "ddim" else solvers.decode_2m
    return solve(predict_noise, x_T, levels, alpha_bar, clip=sampling.clip_x0, watch=watch)
