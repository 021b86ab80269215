"""`diffae train-prior`: what new z_sem look like, learnt from those of the training images."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from diffae.cli.attributes import codes_of
from diffae.cli.common import RunArgument, error_console, open_model, say, training_pack
from diffae.config import Precision, Prediction, PriorConfig, PriorLoss, Schedule, TrainingConfig
from diffae.errors import ConfigError

if TYPE_CHECKING:
    from diffae.model import DiffusionAutoencoder

_FALLBACK = "small32"  # for runs that name no preset
_preset = arg(help_behavior_hint="(default: by the run's preset)")


@dataclass(frozen=True)
class TrainPrior:
    """Train the latent prior of a run, for `diffae sample` to make new images. Ctrl-C saves; --resume continues."""

    model: RunArgument
    images: Annotated[Path | None, arg(help_behavior_hint="(default: those of the run's training)")] = None
    """The images the run was trained on: a folder, .zip, .npy, .npz or .pack."""
    layers: Annotated[int | None, _preset] = None
    """Layers of the MLP."""
    hidden_channels: Annotated[int | None, _preset] = None
    """Width of the MLP."""
    loss: Annotated[PriorLoss | None, _preset] = None
    """Mean absolute ("l1") or mean squared error."""
    schedule: Annotated[Schedule | None, _preset] = None
    """How noise grows with the level; "constant" is the paper's."""
    prediction: Annotated[Prediction | None, _preset] = None
    """What the network predicts: the noise, or v."""
    codes: Annotated[int | None, _preset] = None
    """Length of training: codes seen."""
    batch_size: Annotated[int | None, _preset] = None
    """Codes per step, over all processes."""
    learning_rate: Annotated[float | None, _preset] = None
    """Step size of AdamW."""
    weight_decay: Annotated[float | None, _preset] = None
    """Of AdamW; 0 is Adam."""
    precision: Annotated[Precision | None, _preset] = None
    """bfloat16 where the machine is faster with it ("auto"), or stated."""
    seed: Annotated[int | None, _preset] = None
    """Start of every random number."""
    resume: bool = False
    """Continue where the prior's training was saved."""
    overwrite: bool = False
    """Replace the run's prior."""

    def run(self) -> int:
        """Encode the training images once, and train; 130 when interrupted."""
        if self.resume and self.overwrite:
            raise ConfigError("resume and overwrite are both given: continue the prior or replace it; drop one")
        from diffae import checkpoint
        from diffae.config import from_dict
        from diffae.training.autoencoder import held_out
        from diffae.training.prior import refuse_prior, settings_of, train_prior
        from diffae.training.processes import processes

        folder = Path(self.model)
        settings = checkpoint.read_config(folder)
        model = open_model(self.model)
        if not model.config.network.has_encoder:
            raise ConfigError("z_sem_channels is 0: this model has no z_sem to learn; `diffae sample` needs no prior")
        mark = model.fingerprint()
        if not self.resume:
            refuse_prior(folder, overwrite=self.overwrite)
        config, training = self._settings(settings_of(folder, mark) if self.resume else _usual(settings))
        pack = training_pack(model, self.images)
        rows = held_out(pack, from_dict(TrainingConfig, settings.get("training", {})))
        with processes().main_process_first():  # the others find the codes in the cache
            codes, val_codes = (codes_of(model, pack, part, folder) for part in rows)
        if processes().is_main_process:
            _tell_start(model, config, training, len(codes))
        finished = train_prior(
            folder, mark, codes, val_codes, config, training, resume=self.resume, overwrite=self.overwrite
        )
        if processes().is_main_process:
            self._tell_end(folder, finished)
        return 0 if finished else 130

    def _settings(self, start: tuple[PriorConfig, TrainingConfig]) -> tuple[PriorConfig, TrainingConfig]:
        """These settings with the options that were given."""
        config, training = start
        names = ("batch_size", "learning_rate", "weight_decay", "precision", "seed")
        diffusion = replace(config.diffusion, **self._given(("schedule", "prediction")))
        config = replace(config, diffusion=diffusion, **self._given(("layers", "hidden_channels", "loss")))
        given = self._given(names) | ({} if self.codes is None else {"images": self.codes})
        return config, replace(training, **given)

    def _given(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _tell_end(self, folder: Path, finished: bool) -> None:
        from diffae.latent.prior import PRIOR

        if not finished:
            say(f"Interrupted; everything is saved. To continue:\n    diffae train-prior {self.model} --resume")
            return
        say(f"The prior is in {folder / PRIOR}.")
        say(f"Try now:\n    {shlex.join(['diffae', 'sample', self.model, '--out', 'samples.png'])}")


def _usual(settings: dict[str, Any]) -> tuple[PriorConfig, TrainingConfig]:
    """The settings that belong to the run's preset."""
    from diffae.presets import prior_presets

    return prior_presets().get(settings.get("data", {}).get("preset"), prior_presets()[_FALLBACK])


def _tell_start(model: DiffusionAutoencoder, config: PriorConfig, training: TrainingConfig, count: int) -> None:
    d = model.config.network.z_sem_channels
    error_console().print(
        f"z_sem of {count:,} images, {d} numbers each · MLP of {config.layers} layers, {config.hidden_channels} "
        f"wide · {training.images:,} codes to see, {training.batch_size} at a time · Ctrl-C saves and stops",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
