"""Settings of the diffusion process and of sampling. None of it imports torch: the command line starts fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from diffae.deprecation import renamed, renamed_value, upgrade_sampling
from diffae.errors import require, require_choice

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffae.diffusion.inversion import Encoded, PredictNoiseOf
    from diffae.diffusion.process import DiffusionProcess

Schedule = Literal["linear", "cosine", "constant"]
Prediction = Literal["eps", "v"]
Weighting = Literal["uniform", "min_snr"]
LevelSampling = Literal["uniform", "middle"]
Spacing = Literal["quadratic", "squares", "leading", "trailing"]
SolverName = Literal["ddim", "dpm++2m", "student"]
InversionName = Literal["exact", "explicit", "official", "bdia"]
Arithmetic = Literal["float32", "float64", "bfloat16"]


@dataclass(frozen=True)
class DiffusionConfig:
    """The forward process, and what the decoder predicts."""

    schedule: Schedule = "linear"
    """How alpha_bar falls with the level; "constant" is the latent prior's beta = 0.008."""
    levels: int = 1000
    """T, the number of noise levels."""
    prediction: Prediction = "eps"
    """What the decoder's output is: eps (paper, Eq. 6), or v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0
    (Salimans & Ho, "Progressive distillation", 2022). `predict_noise` returns eps in both cases."""

    def __post_init__(self) -> None:
        require_choice("schedule", self.schedule, Schedule)
        require_choice("prediction", self.prediction, Prediction)
        require(self.levels >= 2, "levels", self.levels, "must be at least 2")

    def build(self) -> DiffusionProcess:
        """The process with these settings."""
        from diffae.diffusion.process import DiffusionProcess

        return DiffusionProcess(self)


@runtime_checkable
class Solver(Protocol):
    """Solves the decoder's ODE from x_T down to x_0. Write one as a frozen dataclass (docs/extending.md)."""

    def decode(
        self,
        predict_noise: Callable[[Tensor, int], Tensor],
        x_T: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
        callback: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """x_0, as x_T, from x_T at the last of `levels`, which rise from 0.

        Args:
            predict_noise: eps_hat(x_t, t) for a batch x_t and one level t >= 1.
            x_T: (b, ...), the state at the highest level.
            levels: visited from last to first.
            alpha_bar: (T + 1,) float64, `alpha_bar[0] = 1`.
            clip: clamp x0_hat to [-1, 1] in every step.
            callback: called with (t, x0_hat) at every step, before clipping.
        """
        ...


@runtime_checkable
class Inversion(Protocol):
    """Finds the x_T that a solver decodes to a given x_0. Write one as a frozen dataclass."""

    inverts: ClassVar[type]
    """The solver whose steps are inverted."""
    needs_float32: ClassVar[bool]
    """Whether bfloat16 networks are too coarse for it."""

    def encode(
        self,
        predict_noise: PredictNoiseOf,
        x_0: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
    ) -> Encoded:
        """The stochastic code of x_0, with the number of network calls spent on each image."""
        ...


@renamed(grid="spacing")
@dataclass(frozen=True)
class Sampling:
    """How the decoder's ODE is solved: downwards to decode, upwards to encode."""

    steps: int = 16
    """Solver steps, 1 to T."""
    spacing: Spacing = "quadratic"
    """Timestep spacing: "quadratic" runs from 1 to T and is denser near the image, where inversion loses least
    (docs/inversion.md); "squares" is T times the squares of 1/steps, 2/steps, ..., for few steps; "leading" is evenly
    spaced from 1, as in the published code; "trailing" is evenly spaced up to T."""
    inversion: InversionName | Inversion | Any = "exact"
    """How x_T is found: "exact" solves each step of the decoder; "explicit" is textbook reverse DDIM with the same
    timesteps; "official" is the published one, whose timesteps are shifted by one; "bdia" keeps the last two states,
    twice the stochastic code, and is exact by algebra at one network call per step. Or an `Inversion` of your own."""
    clip_x0: bool = False
    """Clamp x0_hat to [-1, 1] in every step, as the published code does. Clipped steps cannot be inverted exactly."""
    tolerance: float = 4e-5
    """Bound on the error that a step of exact inversion leaves in the image: root mean square, images in [-1, 1]."""
    max_iterations: int = 30
    """Network calls that exact inversion may spend on one step."""
    solver: SolverName | Solver | Any = "ddim"
    """How decoding steps: "ddim", which can be inverted; "dpm++2m", of second order and without an inverse, for few
    steps (see `fast`); "student", the distilled decoder (see `student`). Or a `Solver` of your own."""
    precision: Arithmetic = "float32"
    """What the networks compute in: "float32", never rounded to TF32; "float64", for inversion to tolerances below
    1e-6; "bfloat16", the fastest where the hardware has it, for decoding that need not be exact. States are float32, or
    float64."""
    compile: bool | str = False
    """Compile decoder and encoder by `torch.compile` when they are first called, which takes a minute and is worth it
    for many calls (docs/speed.md). Or the name of a backend in place of "inductor"."""

    upgrade = staticmethod(upgrade_sampling)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inversion", renamed_value("inversion", self.inversion, {"pair": "bdia"}))
        if not isinstance(self.solver, Solver):
            require_choice("solver", self.solver, SolverName)
        if not isinstance(self.inversion, Inversion):
            require_choice("inversion", self.inversion, InversionName)
        require_choice("precision", self.precision, Arithmetic)
        require_choice("spacing", self.spacing, Spacing)
        require(self.steps >= 1, "steps", self.steps, "must be at least 1")
        require(0 < self.tolerance < math.inf, "tolerance", self.tolerance, "must be positive")
        require(self.max_iterations >= 1, "max_iterations", self.max_iterations, "must be at least 1")
        rule = 'clipped steps have no inverse; set clip_x0=False, or inversion="official"'
        require(not (self.clip_x0 and self.inversion in ("exact", "bdia")), "inversion", self.inversion, rule)

    @property
    def backend(self) -> str | None:
        """The backend of `torch.compile`; None for networks that are not compiled."""
        return "inductor" if self.compile is True else self.compile or None

    @classmethod
    def official(cls, steps: int = 20) -> Sampling:
        """Reproduces the published numbers: the published timesteps, clipping and explicit inversion."""
        return cls(steps=steps, spacing="leading", inversion="official", clip_x0=True)

    @classmethod
    def fast(cls, steps: int = 10) -> Sampling:
        """For random x_T: 10 network calls give images no worse than DDIM's 50 (docs/inversion.md). Cannot encode."""
        return cls(steps=steps, spacing="squares", solver="dpm++2m")

    @classmethod
    def student(cls, steps: int = 1) -> Sampling:
        """For pictures in 1, 2 or 4 network calls, by the student that `diffae distill` made. Cannot encode."""
        return cls(steps=steps, solver="student")
