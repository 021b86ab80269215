"""`diffae train-prior`: learn the distribution of z_sem from the training images."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from diffae.cli import common, models
from diffae.cli.options import RunArgument, TrainingImages, by_preset
from diffae.cli.terminal import note, say
from diffae.config import PriorConfig, PriorLoss
from diffae.diffusion.settings import Prediction, Schedule
from diffae.distributed import broadcast, is_main
from diffae.errors import ConfigError
from diffae.interrupts import exit_code
from diffae.training.settings import Precision, TrainingConfig

_FALLBACK = "small32"  # for runs that name no preset


@dataclass(frozen=True)
class TrainPrior:
    """Train the latent prior of a run, which `diffae sample` needs.

    Ctrl-C saves; --resume continues.
    """

    model: RunArgument
    images: TrainingImages = None
    layers: Annotated[int | None, by_preset] = None
    """Layers of the MLP."""
    hidden_channels: Annotated[int | None, by_preset] = None
    """Width of the MLP."""
    loss: Annotated[PriorLoss | None, by_preset] = None
    """Mean absolute ("l1") or mean squared error."""
    schedule: Annotated[Schedule | None, by_preset] = None
    """Noise schedule; "constant" is the paper's."""
    prediction: Annotated[Prediction | None, by_preset] = None
    """What the network predicts: the noise, or v."""
    codes: Annotated[int | None, by_preset] = None
    """Length of training: codes seen."""
    batch_size: Annotated[int | None, by_preset] = None
    """Codes per step, over all processes."""
    learning_rate: Annotated[float | None, by_preset] = None
    """Step size of AdamW."""
    weight_decay: Annotated[float | None, by_preset] = None
    """Weight decay of AdamW; 0 is Adam."""
    precision: Annotated[Precision | None, by_preset] = None
    """Mixed precision: "auto" uses bfloat16 if the machine is faster with it."""
    seed: Annotated[int | None, by_preset] = None
    """Seed of every random number."""
    resume: bool = False
    """Continue the prior's training where it was saved; begin it if nothing was saved yet."""
    overwrite: bool = False
    """Replace the run's prior."""

    def run(self) -> int:
        """Encode the training images once, and train; 130 or 143 when interrupted."""
        if self.resume and self.overwrite:
            raise ConfigError("resume and overwrite are both given: continue the prior or replace it; drop one")
        import torch

        from diffae import checkpoint
        from diffae.config import from_dict
        from diffae.latent.prior import PRIOR
        from diffae.latent.typicality import TypicalCodes
        from diffae.training.held_out import held_out
        from diffae.training.prior import refuse_prior, settings_of, train_prior

        folder = Path(self.model)
        settings = checkpoint.read_config(folder)
        model = models.open_model(self.model, z_sem_for="to learn; `diffae sample` needs no prior")
        mark = model.fingerprint()
        resume = self.resume and broadcast((folder / PRIOR).is_file())
        if not resume:
            refuse_prior(folder, overwrite=self.overwrite)
        config, training = self._settings(settings_of(folder, mark) if resume else _usual(settings))
        pack = models.training_pack(model, self.images)
        rows = held_out(pack, from_dict(TrainingConfig, settings.get("training", {}), trust_code=common.trust_code))
        codes, val_codes = (models.z_sem_of(model, pack, part, folder) for part in rows)
        main = is_main()
        if main:
            TypicalCodes().fit(torch.from_numpy(codes.copy()), torch.from_numpy(val_codes.copy())).save(folder, mark)
        if main and self.resume and not resume:
            note(f"{folder} has no prior yet: training begins")
        if main:
            note(
                f"z_sem of {len(codes):,} images, {codes.shape[1]} numbers each · MLP of {config.layers} layers, "
                f"{config.hidden_channels} wide · {training.images:,} codes to see, {training.batch_size} at a time · "
                "Ctrl-C saves and stops"
            )
        finished = train_prior(
            folder, mark, codes, val_codes, config, training, resume=resume, overwrite=self.overwrite
        )
        if main:
            self._tell_end(folder, finished)
        return 0 if finished else exit_code()

    def _settings(self, start: tuple[PriorConfig, TrainingConfig]) -> tuple[PriorConfig, TrainingConfig]:
        """These settings with the options that were given."""
        config, training = start
        diffusion = replace(config.diffusion, **self._given("schedule", "prediction"))
        config = replace(config, diffusion=diffusion, **self._given("layers", "hidden_channels", "loss"))
        given = self._given("batch_size", "learning_rate", "weight_decay", "precision", "seed")
        return config, replace(training, **given, **({} if self.codes is None else {"images": self.codes}))

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _tell_end(self, folder: Path, finished: bool) -> None:
        from diffae.latent.prior import PRIOR

        if not finished:
            resume = shlex.join(["diffae", "train-prior", self.model, "--resume"])
            say("Interrupted; everything is saved. To continue:", f"    {resume}")
            return
        sample = shlex.join(["diffae", "sample", self.model, "--out", "samples.png"])
        say(f"The prior is in {folder / PRIOR}.", "Try now:", f"    {sample}")


def _usual(settings: dict[str, Any]) -> tuple[PriorConfig, TrainingConfig]:
    """The prior settings of the run's preset."""
    from diffae.presets import prior_presets

    return prior_presets().get(settings.get("data", {}).get("preset"), prior_presets()[_FALLBACK])
