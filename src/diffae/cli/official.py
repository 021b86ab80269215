"""`diffae import-official` and `diffae export-official`: published checkpoints to run folders, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from diffae.cli.common import RunArgument, error_console, say
from diffae.config import Schedule

if TYPE_CHECKING:
    from diffae.model import DiffusionAutoencoder

_optional = arg(help_behavior_hint="(optional)")


def _published(default: str) -> object:
    return arg(help_behavior_hint=f"(default: what the checkpoint says, else {default})")


@dataclass(frozen=True)
class ImportOfficial:
    """Make a run folder of checkpoints published by the paper's authors, or by forks of their code.

    They are pickles: only tensors and plain values are read, and no code in them is run.
    """

    checkpoint: Annotated[Path, Positional, arg(metavar="CHECKPOINT")]
    """last.ckpt of an autoencoder, with or without a latent net, or of a DDIM."""
    out: Path
    """Run folder to make."""
    latent: Annotated[Path | None, _optional] = None
    """last.ckpt of the autoencoder with its latent net, where that is another file."""
    classifier: Annotated[Path | None, _optional] = None
    """last.ckpt of a classifier of z_sem: its weights become attribute directions."""
    stats: Annotated[Path | None, _optional] = None
    """latent.pkl, for files that lack the mean and standard deviation of z_sem."""
    heads: Annotated[int | None, _published("1")] = None
    """Attention heads."""
    image_size: Annotated[int | None, arg(help_behavior_hint="(default: that of the checkpoint's x_T)")] = None
    """Side of the images in pixels."""
    encoder_res_blocks: Annotated[int | None, _published("as many as the UNet's")] = None
    """Residual blocks per level of the encoder."""
    schedule: Annotated[Schedule | None, _published("linear")] = None
    """Noise schedule of the images."""
    prior_schedule: Annotated[Schedule | None, _published("constant")] = None
    """Noise schedule of the latent net."""
    levels: Annotated[int | None, _published("1000")] = None
    """T, the number of noise levels."""
    dropout: Annotated[float | None, _published("0.1")] = None
    """Dropout of the UNet, for training it further."""
    attribute_names: Annotated[tuple[str, ...], _published("CelebA's 40")] = ()
    """What the classifier tells, in its order."""
    classifier_weights: Literal["raw", "ema"] = "raw"
    """Those of its last step, which the published code edits by, or their average."""

    def run(self) -> int:
        """Write the folder and print what is in it."""
        from diffae.compat.original.architecture import Facts
        from diffae.compat.original.folders import import_official

        facts = {name: getattr(self, name) for name in Facts.__dataclass_fields__}
        with error_console().status(f"reading {self.checkpoint.name}"):
            model = import_official(
                self.checkpoint,
                self.out,
                latent=self.latent,
                classifier=self.classifier,
                stats=self.stats,
                facts=Facts(**facts),
                which=self.classifier_weights,
                names=self.attribute_names,
            )
        say(f"{_described(model)} is in {self.out}.")
        if model.prior is not None or not model.config.network.has_encoder:
            say(f"Try now:\n    diffae sample {self.out} --count 16 --out samples.png")
        else:
            say(f"Try now:\n    diffae reconstruct {self.out} a.png --out out/")
        return 0


@dataclass(frozen=True)
class ExportOfficial:
    """Write the weights of a run as checkpoints that the published code and its forks can read."""

    model: RunArgument
    out: Path
    """Folder to make: last.ckpt, and template.py with the settings; latent.ckpt, latent.pkl and cls.ckpt of a run with
    a prior and attributes."""

    def run(self) -> int:
        """Write the files."""
        from diffae.compat.original.folders import export_official

        with error_console().status(f"writing {self.out}"):
            files, notes = export_official(self.model, self.out)
        say(f"{', '.join(files)} written to {self.out}.")
        for note in notes:
            say(f"Note: {note}.")
        return 0


def _described(model: DiffusionAutoencoder) -> str:
    network = model.config.network
    parameters = sum(parameter.numel() for parameter in model.networks.parameters())
    kind = f"An autoencoder with z_sem of {network.z_sem_channels} numbers" if network.has_encoder else "A DDIM"
    size = (
        f"for images of {network.image_size} x {network.image_size} pixels, {parameters / 1e6:.1f} million parameters"
    )
    prior = "" if model.prior is None else f", and its prior of {model.prior.config.layers} layers"
    return f"{kind} {size}{prior},"
