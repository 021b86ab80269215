"""`diffae distill`: a student of the decoder, which decodes in one, two or four network calls."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from diffae.cli import common, models
from diffae.cli.options import RunArgument, TrainingImages
from diffae.cli.terminal import counted, note, print_facts, say
from diffae.console import progress
from diffae.errors import ConfigError, require
from diffae.interrupts import exit_code
from diffae.training.settings import Precision, TrainingConfig

if TYPE_CHECKING:
    import numpy as np

    from diffae.checkpoint import Fingerprint
    from diffae.data.pack import Pack
    from diffae.model import DiffusionAutoencoder
    from diffae.training.trajectories import Trajectories

HELD_OUT = 64
"""Images on which a student is validated."""
VISITS = 16
"""Images seen in training for each trajectory, by default: to make one costs as much as a dozen of them."""

_by_run = arg(help_behavior_hint="(default: by how the run was trained)")


@dataclass(frozen=True)
class Distill:
    """Distil the decoder of a run into a student, which decodes in 1, 2 or 4 network calls.

    The student learns the decoder's trajectories, from the x_T of images and from random x_T. Ctrl-C saves; --resume
    continues.
    """

    model: RunArgument
    images: TrainingImages = None
    length: Annotated[int | None, _by_run] = None
    """Length of training: images seen. By default a tenth of the decoder's."""
    trajectories: Annotated[int | None, _by_run] = None
    """Trajectories to learn from. By default a sixteenth of the length."""
    batch_size: Annotated[int | None, _by_run] = None
    """Images per step."""
    learning_rate: Annotated[float | None, _by_run] = None
    """Step size of the optimiser."""
    precision: Annotated[Precision | None, _by_run] = None
    """Mixed precision: "auto" uses bfloat16 if the machine is faster with it."""
    seed: Annotated[int | None, _by_run] = None
    """Seed of every random number."""
    resume: bool = False
    """Continue the student's training where it was saved; begin it if nothing was saved yet."""
    overwrite: bool = False
    """Replace the run's student."""

    def run(self) -> int:
        """Make the trajectories once, and train; 130 or 143 when interrupted."""
        if self.resume and self.overwrite:
            raise ConfigError("resume and overwrite are both given: continue the student or replace it; drop one")
        from diffae.data.images import to_tensor
        from diffae.model.student import STUDENT
        from diffae.training.held_out import held_out
        from diffae.training.student import refuse_student, train_student

        folder = Path(self.model)
        decoder = _decoder_training(folder)
        model = models.open_model(self.model)
        resume = self.resume and (folder / STUDENT).is_file()
        if not resume:
            refuse_student(folder, overwrite=self.overwrite)
        config, count = self._settings(folder, model.fingerprint(), decoder, resume=resume)
        pack = models.training_pack(model, self.images)
        rows, val_rows = held_out(pack, decoder)
        lessons = self._trajectories(model, pack, _spread(rows, count), config.seed, folder)
        if self.resume and not resume:
            note(f"{folder} has no student yet: training begins")
        note(
            f"{len(lessons.states):,} trajectories · {config.images:,} images to see, {config.batch_size} at a time · "
            "Ctrl-C saves and stops"
        )
        x = to_tensor(pack.fetch(val_rows[:HELD_OUT]))
        finished = train_student(folder, model, lessons, x, config, resume=resume, overwrite=self.overwrite)
        self._tell_end(folder, finished)
        return 0 if finished else exit_code()

    def _settings(
        self, folder: Path, mark: Fingerprint, decoder: TrainingConfig, *, resume: bool
    ) -> tuple[TrainingConfig, int]:
        """How to train, and on how many trajectories: by the options, else as before, else as the decoder was."""
        from diffae.training.student import student_settings, student_training

        if resume:
            config, count = student_settings(folder, mark)
            config = config if self.length is None else replace(config, images=self.length)
        else:
            config = student_training(decoder, self.length)
            count = max(config.images // VISITS, 1)
        names = ("batch_size", "learning_rate", "precision", "seed")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        count = count if self.trajectories is None else self.trajectories
        require(count >= 1, "trajectories", count, "must be at least 1")
        return replace(config, **given), count

    def _trajectories(
        self, model: DiffusionAutoencoder, pack: Pack, rows: np.ndarray, seed: int, folder: Path
    ) -> Trajectories:
        from diffae.config import Sampling
        from diffae.training.trajectories import trajectories

        with progress("decoding", len(rows)) as done:
            return trajectories(model, pack, rows, Sampling(), seed, folder / models.CACHE, done)

    def _tell_end(self, folder: Path, finished: bool) -> None:
        from diffae.model.student import STEPS, STUDENT
        from diffae.training.metrics import last_validation
        from diffae.training.student import LOG_FOLDER

        if not finished:
            resume = shlex.join(["diffae", "distill", self.model, "--resume"])
            say("Interrupted; everything is saved. To continue:", f"    {resume}")
            return
        measured = last_validation(folder / LOG_FOLDER, f"psnr_{STEPS[0]}")
        say(f"The student is in {folder / STUDENT}. Unseen images, decoded from their exact x_T:")
        print_facts((counted(steps, "call"), f"{measured[f'psnr_{steps}']:.1f} dB") for steps in STEPS)
        vary = shlex.join(["diffae", "vary", self.model, "a.png", "--student", "1", "--out", "variations.png"])
        say("Try now:", f"    {vary}")


def _decoder_training(folder: Path) -> TrainingConfig:
    """How the run's decoder was trained; the usual settings where config.json does not say."""
    from diffae import checkpoint
    from diffae.config import from_dict

    settings = checkpoint.read_config(folder).get("training", {})
    return from_dict(TrainingConfig, settings, trust_code=common.trust_code)


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows, evenly spaced; more than there are repeat them."""
    import numpy as np

    return rows[np.arange(count) * len(rows) // count] if count <= len(rows) else np.resize(rows, count)
