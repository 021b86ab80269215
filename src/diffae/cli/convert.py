"""`diffae import` and `diffae export`: checkpoints of the original implementation to run folders, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from tyro.conf import Positional, arg

from diffae.cli import models
from diffae.cli.options import RunArgument, optional
from diffae.cli.terminal import busy, say
from diffae.diffusion.settings import Schedule
from diffae.errors import ConfigError

if TYPE_CHECKING:
    from diffae.model import DiffusionAutoencoder


def _recorded(default: str) -> Any:
    return arg(help_behavior_hint=f"(default: as recorded in the checkpoint, else {default})")


@dataclass(frozen=True)
class Import:
    """Make a run folder from checkpoints of the original implementation.

    Reads the checkpoints that the paper's authors published, and those of forks of their code. They are pickles: only
    tensors and plain values are read, and no code in them is run.
    """

    checkpoint: Annotated[Path, Positional, arg(metavar="CHECKPOINT")]
    """last.ckpt of an autoencoder, with or without a latent net, or of a DDIM."""
    out: Path
    """Run folder to make."""
    latent: Annotated[Path | None, optional] = None
    """last.ckpt of the autoencoder with its latent net, if that is another file."""
    classifier: Annotated[Path | None, optional] = None
    """last.ckpt of a classifier of z_sem: its weights become attribute directions."""
    stats: Annotated[Path | None, optional] = None
    """latent.pkl, for files without the mean and standard deviation of z_sem."""
    heads: Annotated[int | None, _recorded("1")] = None
    """Attention heads."""
    image_size: Annotated[int | None, arg(help_behavior_hint="(default: that of the checkpoint's x_T)")] = None
    """Height and width of the images in pixels."""
    encoder_res_blocks: Annotated[int | None, _recorded("as many as the UNet's")] = None
    """Residual blocks per level of the encoder."""
    schedule: Annotated[Schedule | None, _recorded("linear")] = None
    """Noise schedule of the images."""
    prior_schedule: Annotated[Schedule | None, _recorded("constant")] = None
    """Noise schedule of the latent net."""
    levels: Annotated[int | None, _recorded("1000")] = None
    """T, the number of noise levels."""
    dropout: Annotated[float | None, _recorded("0.1")] = None
    """Dropout of the UNet, for further training."""
    attribute_names: Annotated[tuple[str, ...], _recorded("CelebA's 40")] = ()
    """Names of the classifier's outputs, in order."""
    classifier_weights: Literal["raw", "ema"] = "raw"
    """The classifier's last weights, with which the published code edits, or their moving average."""

    def run(self) -> int:
        """Write the folder and describe it."""
        from diffae.compat.original.architecture import Facts
        from diffae.compat.original.folders import import_official
        from diffae.model import DiffusionAutoencoder

        facts = {name: getattr(self, name) for name in Facts.__dataclass_fields__}
        with busy(f"reading {self.checkpoint.name}"):
            import_official(
                self.checkpoint,
                self.out,
                latent=self.latent,
                classifier=self.classifier,
                stats=self.stats,
                facts=Facts(**facts),
                which=self.classifier_weights,
                names=self.attribute_names,
            )
        model = DiffusionAutoencoder.from_pretrained(self.out, "cpu")
        say(f"{_described(model)} is in {self.out}.", "Try now:")
        if model.prior is not None or not model.config.has_encoder:
            say(f"    diffae sample {self.out} --count 16 --out samples.png")
        else:
            say(f"    diffae reconstruct {self.out} a.png --out out/")
        return 0


@dataclass(frozen=True)
class Export:
    """Write a run for other programs: as checkpoints of the original implementation, or as ONNX files."""

    model: RunArgument
    out: Annotated[Path | None, optional] = None
    """Folder to make: last.ckpt, and template.py with the settings; with a prior and attributes also latent.ckpt,
    latent.pkl and cls.ckpt."""
    onnx: Annotated[Path | None, optional] = None
    """Folder to make: encoder.onnx, decoder.onnx, student.onnx if there is one, and settings.json."""

    def run(self) -> int:
        """Write the files."""
        if (self.out is None) == (self.onnx is None):
            raise ConfigError("out or onnx must be given, one of the two: name the folder to make")
        return self._original(self.out) if self.out else self._onnx(cast(Path, self.onnx))

    def _onnx(self, folder: Path) -> int:
        from diffae.model.export import OPSET, export_onnx

        model = models.open_model(self.model)
        with busy(f"writing {folder}"):
            found = export_onnx(model, folder)
        say(f"{', '.join(f'{name}.onnx' for name in found)} written to {folder}, opset {OPSET}.")
        worst = max(found.values())
        say(f"In ONNX Runtime their outputs differ from PyTorch's by at most {worst:.1e} standard deviations.")
        return 0

    def _original(self, out: Path) -> int:
        from diffae.compat.original.folders import export_official

        with busy(f"writing {out}"):
            files, notes = export_official(self.model, out)
        say(f"{', '.join(files)} written to {out}.", *(f"Note: {text}." for text in notes))
        return 0


def _described(model: DiffusionAutoencoder) -> str:
    z_sem, size = model.config.z_sem_channels, model.image_shape[1]
    kind = f"An autoencoder with z_sem of {z_sem} numbers" if z_sem else "A DDIM"
    parameters = f"{models.parameter_count(model) / 1e6:.1f} million parameters"
    prior = "" if model.prior is None else f", and its prior of {model.prior.config.layers} layers"
    return f"{kind} for images of {size} x {size} pixels, {parameters}{prior},"
