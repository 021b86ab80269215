"""A student of the decoder: the same network, distilled to decode in one, two or four calls instead of sixteen.

It predicts v, and its steps are DDIM's, on levels of its own. The levels of the teacher's trajectory are divided into
four, two and one long steps. A network cannot tell by level T alone how far it shall go, so every number of steps has
its levels displaced by as little as tells them apart: those of 2 steps lie one below the teacher's, those of 4 two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from diffae import checkpoint
from diffae.config import Sampling, from_dict, to_dict
from diffae.diffusion.solvers import DDIM, PredictNoise, StepCallback
from diffae.diffusion.timesteps import levels_of
from diffae.errors import CheckpointError, reading, require
from diffae.model.student_weights import differences, restored

if TYPE_CHECKING:
    from diffae.checkpoint import Fingerprint
    from diffae.model.autoencoder import DiffusionAutoencoder

STUDENT = "student.safetensors"

STEPS = (1, 2, 4)
"""Numbers of steps that a student is trained for; each divides the next."""

_FORMAT = "diffae_student"
_VERSION = "2"


def milestones(teacher: Sampling, top: int) -> list[int]:
    """Levels of the teacher's trajectory where the student's steps begin and end: 0 and four more, up to T.

    Raises:
        ConfigError: the teacher takes too few steps, or the levels are too few to be displaced.
    """
    most = STEPS[-1]
    require(teacher.steps >= most, "steps", teacher.steps, f"must be at least {most}, which a student learns to take")
    levels = levels_of(teacher.steps, teacher.spacing, top)
    found = [levels[round(i * teacher.steps / most)] for i in range(most + 1)]
    rule = f"level {found[1]} of {teacher.steps} steps is too near the image; distil fewer steps"
    require(found[1] >= len(STEPS), "levels", top, rule)
    return found


def path(levels: Sequence[int], steps: int) -> list[int]:
    """The student's levels for a number of steps, from `milestones`: rising from 0, displaced as told above."""
    below = STEPS.index(steps)
    return [max(level - below, 0) for level in levels[:: (len(levels) - 1) // steps]]


@dataclass(frozen=True)
class OnLevels:
    """DDIM on given levels, whatever the timestep spacing; it cannot encode."""

    levels: tuple[int, ...]

    def decode(
        self,
        predict_noise: PredictNoise,
        x_T: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
        callback: StepCallback | None = None,
    ) -> Tensor:
        """x_T to x_0; see `Solver.decode`."""
        return DDIM().decode(predict_noise, x_T, self.levels, alpha_bar, clip=clip, callback=callback)


class Student:
    """A distilled decoder.

    Args:
        model: the autoencoder with the student's network, which predicts v, as its decoder.
        teacher: how the trajectories that it learnt were decoded.
    """

    def __init__(self, model: DiffusionAutoencoder, teacher: Sampling) -> None:
        self.model, self.teacher = model, teacher
        self.levels = milestones(teacher, model.process.levels)

    @classmethod
    def of(cls, model: DiffusionAutoencoder, decoder: nn.Module, teacher: Sampling) -> Student:
        """The student of a model with this network; encoder and first stage are the model's own."""
        config = replace(model.config, diffusion=replace(model.config.diffusion, prediction="v"))
        networks = type(model)(config, decoder=decoder, encoder=model.encoder, first_stage=model.first_stage)
        return cls(networks, teacher)

    def sampling(self, wanted: Sampling) -> Sampling:
        """Settings by which the student's `model` decodes in `wanted.steps` steps.

        Raises:
            ConfigError: a number of steps for which it was not trained.
        """
        known = ", ".join(map(str, STEPS[:-1])) + f" or {STEPS[-1]}"
        require(wanted.steps in STEPS, "steps", wanted.steps, f"the student was trained for {known}")
        solver = OnLevels(tuple(path(self.levels, wanted.steps)))
        return Sampling(wanted.steps, solver=solver, precision=wanted.precision, compile=wanted.compile)

    def save(self, folder: str | Path, model: DiffusionAutoencoder, **more: Any) -> None:
        """Write student.safetensors beside the decoder's weights, atomically: its differences from them, in 8 bits.

        Args:
            folder: the autoencoder's.
            model: the autoencoder whose decoder was distilled.
            more: further plain values to store with it.
        """
        texts = {_FORMAT: _VERSION, "model": model.fingerprint(), "teacher": json.dumps(to_dict(self.teacher))}
        noted = {name: json.dumps(value) for name, value in more.items()}
        tensors = differences(checkpoint.own_state(self.model.decoder), checkpoint.own_state(model.decoder))
        checkpoint.write_tensors(Path(folder) / STUDENT, tensors, texts | noted)

    @classmethod
    def load(cls, folder: str | Path, model: DiffusionAutoencoder, fingerprint: Fingerprint) -> Student:
        """Read what `save` wrote.

        Raises:
            CheckpointError: no such file, damaged, or the student of another model.
        """
        file = Path(folder) / STUDENT
        if not file.is_file():
            raise CheckpointError(f"{folder} has no student yet: make one with `diffae distill {folder}`")
        tensors, texts = checkpoint.read_tensors(file)
        if texts.get(_FORMAT) != _VERSION:
            raise CheckpointError(f"{file} holds no student: make one with `diffae distill`")
        if not fingerprint.matches(texts.get("model")):
            whose = f"belongs to a model with fingerprint {texts.get('model')}, this one's is {fingerprint}"
            raise CheckpointError(f"{file} {whose}: distil it again with `diffae distill --overwrite`")
        with reading(file, "distil it again with --overwrite", CheckpointError):
            teacher = from_dict(Sampling, json.loads(texts["teacher"]))
            weights = restored(tensors, checkpoint.own_state(model.decoder))
        decoder = model.config.decoder.build(model.config.latent_shape, model.config.z_sem_channels)
        checkpoint.load_weights(decoder, weights, file)
        student = cls.of(model, decoder, teacher)
        student.model.to(model.device)
        return student
