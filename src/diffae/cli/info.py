"""`diffae info`: what a run folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from diffae.cli import common
from diffae.cli.common import images_seen, length_of_training
from diffae.cli.terminal import counted, print_facts
from diffae.training.metrics import describe_validation, last_validation

if TYPE_CHECKING:
    from diffae.config import InputConfig, ModelConfig


@dataclass(frozen=True)
class Info:
    """Describe a run folder.

    Settings, size, length of training and the last validation.
    """

    model: Annotated[Path, Positional, arg(metavar="RUN")]
    """Run folder made by `diffae train`."""

    def run(self) -> int:
        """Print the facts."""
        from diffae import checkpoint

        config = checkpoint.read_config(self.model)
        official = config.get("official")
        imported = ", ".join(map(str, official.values())) if isinstance(official, dict) else ""
        print_facts(
            [
                ("run", str(self.model)),
                *_about_model(checkpoint.read_model_config(self.model, trust_code=common.trust_code), self.model),
                *(_about_training(config.get("data"), self.model) if config.get("training") else []),
                *([("imported from", imported)] if imported else []),
                ("files", _about_files(self.model)),
                ("written by", f"diffae {config.get('diffae', 'of an unknown version')}"),
            ]
        )
        return 0


def _about_model(model: ModelConfig, folder: Path) -> list[tuple[str, str]]:
    diffusion = model.diffusion
    parameters = " + ".join(f"{name} {count / 1e6:.2f} million" for name, count in _parameters(folder).items())
    return [
        ("images", f"{model.image_size} x {model.image_size} pixels, {model.image_channels} channel(s)"),
        ("values", _about_values(model.input)),
        ("z_sem", f"{model.z_sem_channels} numbers" if model.has_encoder else "none (no encoder)"),
        ("decoder", _about_decoder(model)),
        ("parameters", parameters or "no model.safetensors yet"),
        ("diffusion", f"{diffusion.levels} levels, {diffusion.schedule} schedule, predicts {diffusion.prediction}"),
    ]


def _about_decoder(model: ModelConfig) -> str:
    from diffae.config import UNetConfig

    decoder = model.decoder
    if not isinstance(decoder, UNetConfig):
        return str(decoder)
    levels = "-".join(map(str, decoder.channel_mult))
    attention = ", ".join(map(str, decoder.attention_resolutions)) or "nowhere"
    widths = f"model channels {decoder.model_channels}, multipliers {levels}"
    return f"UNet, {widths}, {decoder.res_blocks} residual block(s), attention at {attention}"


def _about_values(given: InputConfig) -> str:
    window = ", ".join(f"{low:g} to {high:g}" for low, high in given.window or ())
    return f"{given.dtype}, {window or 'its whole range'}"


def _parameters(folder: Path) -> dict[str, int]:
    """Number of parameters of each network, from the header of the weights."""
    from math import prod

    from safetensors import safe_open

    from diffae import checkpoint

    path = folder / checkpoint.WEIGHTS
    counts: dict[str, int] = {}
    if not path.is_file():
        return counts
    with checkpoint.reading_weights(path), safe_open(path, "np") as file:
        for name in sorted(file.keys(), reverse=True):
            network = name.partition(".")[0].replace("unet", "decoder")  # its name in version 0.1
            counts[network] = counts.get(network, 0) + prod(file.get_slice(name).get_shape())
    return counts


def _about_training(data: Any, folder: Path) -> list[tuple[str, str]]:
    metrics, seen, (images, batch_size) = last_validation(folder), images_seen(folder), length_of_training(folder)
    of = f"{seen:,} of " if seen else ""
    rows = [("trained", f"{of}{images:,} images, {batch_size} at a time")]
    data = data if isinstance(data, dict) else {}
    if "source" in data:
        count = data.get("count")
        rows.append(("data", str(data["source"]) + (f", {counted(count)}" if isinstance(count, int) else "")))
    for key, name in (("preset", "preset"), ("teacher", "distilled from")):
        if key in data:
            rows.append((name, str(data[key])))
    if metrics:
        rows.append(("validation", f"after {metrics['images']:,.0f} images: {describe_validation(metrics)}"))
    return rows


def _about_files(folder: Path) -> str:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    largest = [path for path in files if path.suffix == ".safetensors"]
    sizes = [f"{path.relative_to(folder)} {path.stat().st_size / 1e6:.1f} MB" for path in largest]
    total = sum(path.stat().st_size for path in files)
    return ", ".join([*sizes, f"{len(files)} files, {total / 1e6:.1f} MB in all"])
