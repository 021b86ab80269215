"""Inversions of DDIM: find the x_T that decodes to a given image, exactly or as the paper and the published code do.

Decoding steps from level t to s by x_s = a x_t + b eps_hat(x_t, t). Its inverse is implicit: x_t is the fixed point of

    g(x_t) = (x_s - b eps_hat(x_t, t)) / a.

Plain iteration of g contracts with rate about (1 - sigma_s / sigma_t) ||I - J||, where J is the denoiser's Jacobian.
`ExactInversion` accelerates it by Anderson's method and stops, image by image, on the residual of the step it inverts,
||a x_t + b eps_hat(x_t, t) - x_s||, which is the error the decoder will make. Where acceleration overshoots, an image
returns to its best iterate, drops the others, and takes plain steps from there, each half as long as the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffae.diffusion.solvers import DDIM, clipped, coefficients, step
from diffae.diffusion.timesteps import require_rising

PredictNoiseOf = Callable[[Tensor, int, Tensor], Tensor]
"""(x, t, rows): the rows say which images of the batch x holds, so that finished ones cost nothing."""

MEMORY = 4
"""Earlier iterates that Anderson acceleration mixes."""

OVERSHOT = 2.0
"""An iterate whose residual exceeds the best one's by this factor is dropped. Acceleration that works is not monotone:
a bound of 1 rejects steps it needs, and without a bound it diverges on narrow distributions."""


@dataclass
class Encoded:
    """A stochastic code, and how it was found."""

    x_T: Tensor
    """As x_0."""
    calls: Int[Tensor, " b"]
    """Network calls spent on each image."""
    residual: Float[Tensor, " b"] | None = None
    """Of exact inversion: largest residual over the steps, root mean square, images in [-1, 1]."""
    x_below: Tensor | None = None
    """Of BDIA: the state one step below x_T."""


def one_call_per_step(x_0: Tensor, levels: Sequence[int]) -> Int[Tensor, " b"]:
    """The number of calls of an inversion that spends one on every step."""
    return torch.full((len(x_0),), len(levels) - 1, device=x_0.device)


def all_rows(predict_noise: PredictNoiseOf, x_0: Tensor) -> Callable[[Tensor, int], Tensor]:
    """`predict_noise` for the whole batch at once."""
    rows = torch.arange(len(x_0), device=x_0.device)
    return lambda x, t: predict_noise(x, t, rows)


@dataclass(frozen=True)
class ExplicitInversion:
    """Textbook reverse DDIM (Eq. 8): eps_hat is taken at the known end of every step.

    Level 0, the clean image, is given to the network as level 1, the lowest it knows.
    """

    inverts: ClassVar[type] = DDIM
    needs_float32: ClassVar[bool] = False

    def encode(
        self,
        predict_noise: PredictNoiseOf,
        x_0: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
    ) -> Encoded:
        """x_0 to about the x_T that decodes to it, on the decoder's own levels."""
        require_rising(levels, len(alpha_bar) - 1)
        predict, x = all_rows(predict_noise, x_0), x_0
        for s, t in pairwise(levels):
            eps_hat = predict(x, max(s, 1))
            if clip and s > 0:
                x_hat, eps_hat = clipped(x, eps_hat, alpha_bar[s])
                x = math.sqrt(alpha_bar[t]) * x_hat + math.sqrt(1 - alpha_bar[t]) * eps_hat
            else:
                a, b = coefficients(alpha_bar[t], alpha_bar[s])
                x = (x - b * eps_hat) / a
        return Encoded(x, one_call_per_step(x_0, levels))


@dataclass(frozen=True)
class OfficialInversion:
    """The published reverse DDIM, for the published numbers.

    It treats x_0 as being at the first level above 0, and alpha_bar as 0 beyond the last, so that every step is
    shifted by one against the decoder's.
    """

    inverts: ClassVar[type] = DDIM
    needs_float32: ClassVar[bool] = False

    def encode(
        self,
        predict_noise: PredictNoiseOf,
        x_0: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = True,
    ) -> Encoded:
        """x_0 to the published stochastic code."""
        require_rising(levels, len(alpha_bar) - 1)
        predict, x = all_rows(predict_noise, x_0), x_0
        alpha_bar_next = [*(alpha_bar[t] for t in levels[2:]), 0.0]
        for t, following in zip(levels[1:], alpha_bar_next, strict=True):
            x = step(x, predict(x, t), alpha_bar[t], following, clip)
        return Encoded(x, one_call_per_step(x_0, levels))


def rms(x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Root mean square of each row."""
    return x.square().mean(dim=1).sqrt()


class Anderson:
    """Anderson acceleration of a fixed-point iteration, for every row of a batch by itself (Walker & Ni 2011).

    Holds up to `MEMORY` differences of iterates and of residuals; `update` returns the next iterate.
    """

    def __init__(self) -> None:
        self.x: list[Tensor] = []
        self.f: list[Tensor] = []

    def keep(self, rows: Tensor) -> None:
        """Keep these rows; the others are finished."""
        self.x = [x[rows] for x in self.x]
        self.f = [f[rows] for f in self.f]

    def restart(self, rows: Bool[Tensor, "b 1"], x: Float[Tensor, "b d"], f: Float[Tensor, "b d"]) -> None:
        """In the rows that are true, keep only the iterate x with f: the next update is a plain step from it."""
        self.x = [torch.where(rows, x, earlier) for earlier in self.x]
        self.f = [torch.where(rows, f, earlier) for earlier in self.f]

    def update(self, x: Float[Tensor, "b d"], f: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The next iterate, from x with f = g(x) - x: x + f of plain iteration, less its best fit by past ones."""
        self.x, self.f = [*self.x[-MEMORY:], x], [*self.f[-MEMORY:], f]
        if len(self.f) == 1:
            return x + f
        d_f = torch.stack([b - a for a, b in zip(self.f, self.f[1:], strict=False)], dim=2)
        d_x = torch.stack([b - a for a, b in zip(self.x, self.x[1:], strict=False)], dim=2)
        gram = d_f.mT @ d_f
        size = torch.diagonal(gram, dim1=1, dim2=2).mean(dim=1)[:, None, None]
        exact = torch.finfo(f.dtype)
        ridge = max(1e-8, 16 * exact.eps) * size + exact.tiny  # above rounding: differences become dependent
        gram = gram + ridge * torch.eye(gram.shape[-1], dtype=f.dtype, device=f.device)
        # unlike solve, solve_ex does not wait for the device
        gamma = cast(Tensor, torch.linalg.solve_ex(gram, d_f.mT @ f[..., None])[0])  # pyright: ignore[reportUnknownMemberType]
        return x + f - ((d_x + d_f) @ gamma)[..., 0]


@dataclass
class _Step:
    """The state of inverting one step: the best iterate so far of every image in the batch."""

    x: Float[Tensor, "b d"]
    eps: Float[Tensor, "b d"]
    residual: Float[Tensor, " b"]
    calls: Int[Tensor, " b"]

    @classmethod
    def start(cls, x: Float[Tensor, "b d"]) -> _Step:
        residual = torch.full_like(x[:, 0], torch.inf)
        return cls(x.clone(), torch.zeros_like(x), residual, torch.zeros_like(residual, dtype=torch.int64))

    def offer(self, rows: Tensor, x: Tensor, eps: Tensor, residual: Tensor) -> None:
        """Take the iterates of these rows where their residual is the smallest yet."""
        self.calls[rows] += 1
        better = residual < self.residual[rows]  # chosen by `where`: indices made of a mask would wait for the device
        self.x[rows] = torch.where(better[:, None], x, self.x[rows])
        self.eps[rows] = torch.where(better[:, None], eps, self.eps[rows])
        self.residual[rows] = torch.where(better, residual, self.residual[rows])


def invert_step(
    eps_hat: Callable[[Tensor, Tensor], Tensor],
    x_s: Float[Tensor, "b d"],
    guess: Float[Tensor, "b d"],
    ab: tuple[float, float],
    limits: ExactInversion,
) -> _Step:
    """Solve x_s = a x_t + b eps_hat(x_t) for x_t, for each row until its residual is below the tolerance.

    `eps_hat(x, rows)` evaluates the network. The only wait for the device is the test for unfinished rows.
    """
    a, b = ab
    best = _Step.start(guess)
    rows, x, mix = torch.arange(len(x_s), device=x_s.device), guess, Anderson()
    length = torch.ones_like(guess[:, :1])
    for _ in range(limits.max_iterations):
        eps = eps_hat(x, rows)
        f = (x_s[rows] - b * eps) / a - x
        residual = a * rms(f)
        overshot = (residual > OVERSHOT * best.residual[rows])[:, None]
        best.offer(rows, x, eps, residual)
        unfinished = (residual > limits.tolerance).nonzero()[:, 0]
        if len(unfinished) == 0:
            break
        x = torch.where(overshot, best.x[rows], x)
        f = torch.where(overshot, (x_s[rows] - b * best.eps[rows]) / a - x, f)
        mix.restart(overshot, x, f)
        x = x + length * (mix.update(x, f) - x)
        length = torch.where(overshot, length / 2, 1.0)
        if len(unfinished) < len(rows):
            rows, x, length = rows[unfinished], x[unfinished], length[unfinished]
            mix.keep(unfinished)
    return best


@dataclass(frozen=True)
class ExactInversion:
    """Solves each step of the decoder to a tolerance (see the head of this module).

    Each step starts from the explicit step along the eps_hat just found at its lower end, which costs no call. A
    residual above the tolerance is returned as it is, for the caller to report.
    """

    tolerance: float = 5e-5
    """Bound on a step's residual: root mean square, images in [-1, 1]."""
    max_iterations: int = 30
    """Network calls that may be spent on one step."""

    inverts: ClassVar[type] = DDIM
    needs_float32: ClassVar[bool] = True

    def encode(
        self,
        predict_noise: PredictNoiseOf,
        x_0: Float[Tensor, "b ..."],
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
    ) -> Encoded:
        """x_0 to the x_T from which `DDIM.decode`, on the same levels and without clipping, returns to x_0."""
        assert not clip, "clipped steps have no inverse; Sampling refuses them"
        require_rising(levels, len(alpha_bar) - 1)
        x = x_0.flatten(1)
        eps = torch.zeros_like(x)
        residual = torch.zeros_like(x[:, 0])
        calls = torch.zeros_like(residual, dtype=torch.int64)
        for s, t in pairwise(levels):
            a, b = coefficients(alpha_bar[t], alpha_bar[s])

            def eps_hat(x: Tensor, rows: Tensor, t: int = t) -> Tensor:
                return predict_noise(x.view(-1, *x_0.shape[1:]), t, rows).flatten(1)

            found = invert_step(eps_hat, x, (x - b * eps) / a, (a, b), self)
            x, eps = found.x, found.eps
            residual = torch.maximum(residual, found.residual)
            calls += found.calls
        return Encoded(x.view_as(x_0), calls, residual)
