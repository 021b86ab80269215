"""Encoding and decoding as a `Sampling` says: the choice among solvers and inversions."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffae.diffusion.bdia import BDIA
from diffae.diffusion.exact_inversion import ExactInversion
from diffae.diffusion.inversion import (
    Encoded,
    ExplicitInversion,
    OfficialInversion,
    PredictNoiseOf,
)
from diffae.diffusion.settings import Inversion, Sampling, Solver
from diffae.diffusion.solvers import DDIM, DPMSolverPP2M, PredictNoise, StepCallback
from diffae.diffusion.timesteps import levels_of
from diffae.errors import ConfigError, DataError


def solver_of(sampling: Sampling) -> Solver:
    """The solver that the settings name, or hold.

    Raises:
        ConfigError: the student, which is a network as much as a solver.
    """
    if sampling.solver == "student":
        rule = "makes pictures by `DiffusionAutoencoder.decode`, and cannot encode"
        raise ConfigError(f"solver is 'student': {rule}; encode with Sampling(), whose x_T it decodes")
    built_in = {"ddim": DDIM, "dpm++2m": DPMSolverPP2M}
    return built_in[sampling.solver]() if isinstance(sampling.solver, str) else sampling.solver


def inversion_of(sampling: Sampling) -> Inversion:
    """The inversion that the settings name, or hold."""
    if sampling.inversion == "exact":
        return ExactInversion(sampling.tolerance, sampling.max_iterations)
    built_in = {"explicit": ExplicitInversion, "official": OfficialInversion, "bdia": BDIA}
    return built_in[sampling.inversion]() if isinstance(sampling.inversion, str) else sampling.inversion


@contextmanager
def ieee_float32() -> Generator[None, None, None]:
    """Compute float32 as float32: no TF32, whose 10 bits of mantissa would bound the accuracy of every inversion."""
    cudnn: Any = torch.backends.cudnn
    backends: tuple[Any, ...] = (cudnn.conv, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@ieee_float32()
def encode(predict_noise: PredictNoiseOf, x_0: Tensor, alpha_bar: np.ndarray, sampling: Sampling) -> Encoded:
    """x_0 to the stochastic code that `decode`, with the same settings, turns back into it.

    Raises:
        ConfigError: more steps than levels, or a solver that has no inverse.
    """
    require_inverse(sampling)
    levels = levels_of(sampling.steps, sampling.spacing, len(alpha_bar) - 1)
    return inversion_of(sampling).encode(predict_noise, x_0, levels, alpha_bar, clip=sampling.clip_x0)


def require_inverse(sampling: Sampling) -> None:
    """Raise `ConfigError` where these settings decode but cannot encode."""
    inversion, remedy = inversion_of(sampling), 'encode with solver="ddim", precision="float32"'
    if not isinstance(solver_of(sampling), inversion.inverts):
        rule = f"inversion={sampling.inversion!r} inverts {inversion.inverts.__name__} alone"
        raise ConfigError(f"solver is {sampling.solver!r}: has no inverse, {rule}; {remedy}")
    if sampling.precision == "bfloat16" and inversion.needs_float32:
        rule = f"too coarse for inversion={sampling.inversion!r}"
        raise ConfigError(f"precision is 'bfloat16': {rule}; {remedy}, and decode with it")


@ieee_float32()
def decode(
    predict_noise: PredictNoise,
    x_T: Tensor,
    x_below: Tensor | None,
    alpha_bar: np.ndarray,
    sampling: Sampling,
    callback: StepCallback | None = None,
) -> Tensor:
    """x_T to x_0; with the state below it, by BDIA's steps.

    Raises:
        ConfigError: more steps than levels.
        DataError: two states, for settings of another inversion.
    """
    levels = levels_of(sampling.steps, sampling.spacing, len(alpha_bar) - 1)
    if x_below is not None:
        inversion = inversion_of(sampling)
        if not isinstance(inversion, BDIA):
            rule = "made with inversion='bdia', and must be decoded with the same sampling"
            raise DataError(f"x_below is given, inversion is {sampling.inversion!r}: the code was {rule}")
        return inversion.decode(predict_noise, (x_T, x_below), levels, alpha_bar, callback=callback)
    solver = solver_of(sampling)
    return solver.decode(predict_noise, x_T, levels, alpha_bar, clip=sampling.clip_x0, callback=callback)
