"""`diffae info`: what a run folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from diffae.cli.common import describe_validation, images, images_seen, last_validation
from diffae.errors import CheckpointError

if TYPE_CHECKING:
    from diffae.config import InputConfig, ModelConfig


@dataclass(frozen=True)
class Info:
    """Show what a run folder holds: settings, size, how far it was trained and how well."""

    model: Annotated[Path, Positional, arg(metavar="RUN")]
    """Run folder made by `diffae train`."""

    def run(self) -> int:
        """Print it."""
        from rich.console import Console
        from rich.table import Table

        from diffae import checkpoint

        config = checkpoint.read_config(self.model)
        table = Table.grid(padding=(0, 3))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in [
            ("run", str(self.model)),
            *_about_model(checkpoint.read_model_config(self.model), self.model),
            *_about_training(config.get("training", {}), config.get("data", {}), self.model),
            *_about_origin(config.get("official", {})),
            *_about_files(self.model),
            ("written by", f"diffae {config.get('diffae', 'of an unknown version')}"),
        ]:
            table.add_row(name, value)
        Console(highlight=False).print(table)
        return 0


def _about_model(model: ModelConfig, folder: Path) -> list[tuple[str, str]]:
    network, diffusion = model.network, model.diffusion
    levels = "-".join(map(str, network.channel_mult))
    unet = f"model channels {network.model_channels}, multipliers {levels}, {network.res_blocks} residual block(s)"
    attention = ", ".join(map(str, network.attention_resolutions)) or "nowhere"
    counts = _parameters(folder)
    parameters = " + ".join(f"{name} {count / 1e6:.2f} million" for name, count in counts.items())
    return [
        ("images", f"{network.image_size} x {network.image_size} pixels, {network.image_channels} channel(s)"),
        ("values", _about_values(model.input)),
        ("z_sem", f"{network.z_sem_channels} numbers" if network.has_encoder else "none (no encoder)"),
        ("UNet", f"{unet}, attention at {attention}"),
        ("parameters", parameters or "no model.safetensors yet"),
        ("diffusion", f"{diffusion.levels} levels, {diffusion.schedule} schedule, predicts {diffusion.prediction}"),
    ]


def _about_values(given: InputConfig) -> str:
    if given.window is None:
        return f"{given.dtype}, its whole range"
    return f"{given.dtype}, {', '.join(f'{low:g} to {high:g}' for low, high in given.window)}"


def _parameters(folder: Path) -> dict[str, int]:
    """Numbers in the weights of each network, from the file's header."""
    from math import prod

    from safetensors import SafetensorError, safe_open

    from diffae import checkpoint

    path = folder / checkpoint.WEIGHTS
    counts: dict[str, int] = {}
    if not path.is_file():
        return counts
    try:
        with safe_open(path, "np") as file:
            for name in sorted(file.keys(), reverse=True):
                network = name.partition(".")[0]
                counts[network] = counts.get(network, 0) + prod(file.get_slice(name).get_shape())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy it again, or restore it from a backup") from error
    return counts


def _about_training(training: dict[str, Any], data: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    if not training:
        return []
    figures = last_validation(folder)
    seen = images_seen(folder)
    of = f"{seen:,} of " if seen else ""
    rows = [("trained", f"{of}{training['images']:,} images, {training['batch_size']} at a time")]
    if "source" in data:
        rows.append(("data", str(data["source"]) + (f", {images(data['count'])}" if "count" in data else "")))
    if "preset" in data:
        rows.append(("preset", data["preset"]))
    if "teacher" in data:
        rows.append(("teacher", data["teacher"]))
    if figures:
        rows.append(("validation", f"after {figures['images']:,} images: {describe_validation(figures)}"))
    return rows


def _about_origin(official: dict[str, str]) -> list[tuple[str, str]]:
    return [("imported from", ", ".join(official.values()))] if official else []


def _about_files(folder: Path) -> list[tuple[str, str]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    largest = [path for path in files if path.suffix == ".safetensors"]
    sizes = [f"{path.relative_to(folder)} {path.stat().st_size / 1e6:.1f} MB" for path in largest]
    total = sum(path.stat().st_size for path in files)
    return [("files", ", ".join([*sizes, f"{len(files)} files, {total / 1e6:.1f} MB in all"]))]
