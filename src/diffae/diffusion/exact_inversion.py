"""Exact inversion of DDIM: finds the x_T that decodes to a given image.

Decoding steps from level t to s by x_s = a x_t + b eps_hat(x_t, t). Its inverse is implicit: x_t is the fixed point of

    g(x_t) = (x_s - b eps_hat(x_t, t)) / a.

`ExactInversion` solves it to a tolerance, image by image, with as few network calls as it can:

- It starts from eps_hat extrapolated in the log signal-to-noise ratio from the two levels below.
- Its first step divides by 1 - m, where m is how strongly g responds to its argument. In pure noise m is
  1 - sigma_s / (a sigma_t); what fraction of it an image has is measured at every level and used at the next.
- Later steps are accelerated by Anderson's method. Where it overshoots, an image returns to its best iterate, drops the
  others, and takes plain steps from there, each half as long as the last.
- The error that a step leaves is ||a x_t + b eps_hat(x_t, t) - x_s||, of which decoding passes on `damping` to the
  image. An image stops when that, times the factor by which the last update has reduced it, is below the tolerance: the
  update after the last call is taken, too, and not evaluated.
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

from diffae.diffusion.inversion import Encoded, PredictNoiseOf
from diffae.diffusion.solvers import DDIM, coefficients
from diffae.diffusion.timesteps import require_rising

MEMORY = 4
"""Earlier iterates that Anderson acceleration mixes."""

VARIANCES = (1e-4, 0.25)
"""Smallest and largest variance of the data along a direction, images in [-1, 1]; see `damping`."""

TRUSTED = 0.1
"""The factor by which an update that is not evaluated is trusted to reduce the residual at most."""

OVERSHOT = 2.0
"""An iterate whose residual exceeds the best one's by this factor is dropped. Acceleration that works is not monotone:
a bound of 1 rejects steps it needs, and without a bound it diverges on narrow distributions."""


def rms(x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Root mean square of each row."""
    return x.square().mean(dim=1).sqrt()


def damping(alpha_bar_s: float) -> float:
    """The share of a random error at level s that reaches the image when it is decoded.

    Decoding scales a direction of variance v in the data by sqrt(v / (alpha_bar v + 1 - alpha_bar)), were they normal.
    This is the root mean square over directions whose log v is spread evenly over `VARIANCES`, as in natural images.
    """
    low, high = VARIANCES
    noise = 1 - alpha_bar_s
    ratio = (alpha_bar_s * high + noise) / (alpha_bar_s * low + noise)
    return math.sqrt(math.log(ratio) / (alpha_bar_s * math.log(high / low)))


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

    def update(
        self, x: Float[Tensor, "b d"], f: Float[Tensor, "b d"], length: Float[Tensor, "b 1"] | float = 1.0
    ) -> Float[Tensor, "b d"]:
        """The next iterate, from x with f = g(x) - x: x + length f, both less their best fit by past ones."""
        self.x, self.f = [*self.x[-MEMORY:], x], [*self.f[-MEMORY:], f]
        if len(self.f) == 1:
            return x + length * f
        d_f = torch.stack([b - a for a, b in zip(self.f, self.f[1:], strict=False)], dim=2)
        d_x = torch.stack([b - a for a, b in zip(self.x, self.x[1:], strict=False)], dim=2)
        gram = d_f.mT @ d_f
        size = torch.diagonal(gram, dim1=1, dim2=2).mean(dim=1)[:, None, None]
        exact = torch.finfo(f.dtype)
        ridge = max(1e-8, 16 * exact.eps) * size + exact.tiny  # above rounding: differences become dependent
        gram = gram + ridge * torch.eye(gram.shape[-1], dtype=f.dtype, device=f.device)
        # unlike solve, solve_ex does not wait for the device
        gamma = cast(Tensor, torch.linalg.solve_ex(gram, d_f.mT @ f[..., None])[0])  # pyright: ignore[reportUnknownMemberType]
        return x - (d_x @ gamma)[..., 0] + length * (f - (d_f @ gamma)[..., 0])


@dataclass
class Response:
    """How g answers to its argument, for each image: measured at one level, used at the next."""

    noise_like: Float[Tensor, "b 1"]
    """The response of eps_hat, of that in pure noise, 1 / sigma_t: from 0 to below 1."""
    reduction: Float[Tensor, " b"]
    """The factor by which the first update reduces the residual."""

    @classmethod
    def unknown(cls, x: Float[Tensor, "b d"]) -> Response:
        """Before the first level: plain steps, which are not trusted unseen."""
        return cls(torch.zeros_like(x[:, :1]), torch.ones_like(x[:, 0]))

    def measure(self, rows: Tensor, d_x: Tensor, d_f: Tensor, reduction: Tensor, in_noise: float) -> None:
        """From the first two iterates of some rows: their difference, that of f, and the ratio of residuals."""
        m = 1 + (d_f * d_x).sum(1) / d_x.square().sum(1).clamp(min=torch.finfo(d_x.dtype).tiny)
        self.noise_like[rows] = (m / in_noise).clamp(0, 0.95)[:, None]
        self.reduction[rows] = reduction


@dataclass(frozen=True)
class DecoderStep:
    """One step x_s = a x_t + b eps_hat(x_t, t) of the decoder, to be solved for x_t."""

    a: float
    b: float
    in_noise: float
    """m, the response of g in pure noise."""
    damping: float
    """The share of an error in x_s that reaches the image."""

    @classmethod
    def between(cls, alpha_bar_t: float, alpha_bar_s: float) -> DecoderStep:
        a, b = coefficients(alpha_bar_t, alpha_bar_s)
        return cls(a, b, -b / (a * math.sqrt(1 - alpha_bar_t)), damping(alpha_bar_s))


@dataclass
class Solution:
    """The best iterate so far of every image in the batch."""

    x: Float[Tensor, "b d"]
    f: Float[Tensor, "b d"]
    residual: Float[Tensor, " b"]
    calls: Int[Tensor, " b"]

    @classmethod
    def start(cls, x: Float[Tensor, "b d"]) -> Solution:
        residual = torch.full_like(x[:, 0], torch.inf)
        return cls(x.clone(), torch.zeros_like(x), residual, torch.zeros_like(residual, dtype=torch.int64))

    def offer(self, rows: Tensor, x: Tensor, f: Tensor, residual: Tensor) -> None:
        """Take the evaluated iterates of these rows where their residual is the smallest yet."""
        self.calls[rows] += 1
        better = residual < self.residual[rows]  # chosen by `where`: indices made of a mask would wait for the device
        self.x[rows] = torch.where(better[:, None], x, self.x[rows])
        self.f[rows] = torch.where(better[:, None], f, self.f[rows])
        self.residual[rows] = torch.where(better, residual, self.residual[rows])

    def finish(self, rows: Tensor, x: Tensor, residual: Tensor, finished: Bool[Tensor, " r"]) -> None:
        """Take the last iterates of the finished rows, which are not evaluated, with the residual expected of them."""
        self.x[rows] = torch.where(finished[:, None], x, self.x[rows])
        self.residual[rows] = torch.where(finished, residual, self.residual[rows])


def invert_step(
    eps_hat: Callable[[Tensor, Tensor], Tensor],
    x_s: Float[Tensor, "b d"],
    guess: Float[Tensor, "b d"],
    step: DecoderStep,
    limits: ExactInversion,
    response: Response,
) -> Solution:
    """Solve x_s = a x_t + b eps_hat(x_t) for x_t, for each row until its residual is below the tolerance.

    `eps_hat(x, rows)` evaluates the network. The only wait for the device is the test for unfinished rows.
    """
    best = Solution.start(guess)
    rows, x, mix = torch.arange(len(x_s), device=x_s.device), guess, Anderson()
    length, halved = 1 / (1 - response.noise_like * step.in_noise), torch.ones_like(guess[:, :1])
    last = torch.full_like(best.residual, torch.inf)
    for call in range(limits.max_iterations):
        f = (x_s[rows] - step.b * eps_hat(x, rows)) / step.a - x
        residual = step.damping * step.a * rms(f)
        overshot = residual > OVERSHOT * best.residual[rows]
        best.offer(rows, x, f, residual)
        if call == 1:
            response.measure(rows, x - mix.x[0], f - mix.f[0], residual / last, step.in_noise)
        reduction = residual / last if call else response.reduction[rows]
        x, f = (torch.where(overshot[:, None], kept[rows], new) for kept, new in ((best.x, x), (best.f, f)))
        mix.restart(overshot[:, None], x, f)
        x = x + halved * (mix.update(x, f, length) - x)
        halved = torch.where(overshot[:, None], halved / 2, 1.0)
        expected = residual * reduction.clamp(TRUSTED, 1)
        finished = (expected <= limits.tolerance) & ~overshot
        best.finish(rows, x, expected, finished)
        unfinished = (~finished).nonzero()[:, 0]
        if len(unfinished) == 0:
            break
        last = residual
        if len(unfinished) < len(rows):
            rows, x, length, halved, last = (kept[unfinished] for kept in (rows, x, length, halved, last))
            mix.keep(unfinished)
    return best


def extrapolated(past: list[tuple[float, Tensor]], at: float) -> Tensor | float:
    """eps_hat at a log signal-to-noise ratio, on the line through its last two values (ratio, eps_hat)."""
    if len(past) < 2:
        return past[0][1] if past else 0.0
    (first, eps_first), (second, eps_second) = past
    return eps_second + (at - second) / (second - first) * (eps_second - eps_first)


@dataclass(frozen=True)
class ExactInversion:
    """Solves each step of the decoder to a tolerance (see the head of this module).

    An error above the tolerance is returned as it is, for the caller to report.
    """

    tolerance: float = 4e-5
    """Bound on the error that a step leaves in the image: root mean square, images in [-1, 1]."""
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
        residual = torch.zeros_like(x[:, 0])
        calls = torch.zeros_like(residual, dtype=torch.int64)
        past: list[tuple[float, Tensor]] = []
        response = Response.unknown(x)
        for s, t in pairwise(levels):

            def eps_hat(x: Tensor, rows: Tensor, t: int = t) -> Tensor:
                return predict_noise(x.view(-1, *x_0.shape[1:]), t, rows).flatten(1)

            step, log_snr = DecoderStep.between(alpha_bar[t], alpha_bar[s]), math.log(alpha_bar[t] / (1 - alpha_bar[t]))
            guess = (x - step.b * extrapolated(past, log_snr)) / step.a
            found = invert_step(eps_hat, x, guess, step, self, response)
            past = [*past[-1:], (log_snr, (x - step.a * found.x) / step.b)]
            x = found.x
            residual = torch.maximum(residual, found.residual)
            calls += found.calls
        return Encoded(x.view_as(x_0), calls, residual)
