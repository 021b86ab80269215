"""`diffae config`: the settings of a preset or of a run, as a file that `diffae train --config` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from diffae.cli import common
from diffae.cli.terminal import say
from diffae.config import ModelConfig, from_dict, to_dict
from diffae.errors import ConfigError, DataError
from diffae.presets import Recipe, presets
from diffae.training.settings import TrainingConfig

_KEYS = ("preset", "recipe", "model", "training")


@dataclass(frozen=True)
class Config:
    """Print settings in YAML, for `diffae train --config`.

    Change them in an editor, or keep them with a paper: the same settings, images and machine give the same model.
    """

    run_folder: Annotated[Path | None, Positional, arg(metavar="[RUN]")] = None
    """Run folder whose settings are printed; without it, those of --preset."""
    preset: Annotated[str | None, arg(help_behavior_hint="(default: small32)")] = None
    """Named settings."""
    recipe: Annotated[Recipe | None, arg(help_behavior_hint="(default: default)")] = None
    """Training recipe."""

    def run(self) -> int:
        """Print the settings."""
        import yaml

        settings = self._of_preset() if self.run_folder is None else self._of_run(self.run_folder)
        say(*yaml.safe_dump(_plain(settings), sort_keys=False, default_flow_style=None, width=100).splitlines())
        return 0

    def _of_preset(self) -> dict[str, Any]:
        recipe, preset = self.recipe or "default", self.preset or "small32"
        named = presets(recipe)
        if preset not in named:
            raise ConfigError(f"preset is {preset!r}: choose one of {', '.join(named)}")
        model, training = named[preset]
        return {"preset": preset, "recipe": recipe, "model": to_dict(model), "training": to_dict(training)}

    def _of_run(self, folder: Path) -> dict[str, Any]:
        from diffae import checkpoint

        if self.preset or self.recipe:
            raise ConfigError("a run and --preset or --recipe are both given: drop one")
        there = checkpoint.read_config(folder)
        if "training" not in there:
            raise ConfigError(f"{folder / checkpoint.CONFIG} has no 'training': it is a saved model, not a run")
        names = {key: there["data"][key] for key in ("preset", "recipe") if key in there.get("data", {})}
        return {**names, "model": there["model"], "training": there["training"]}


def read_settings(path: Path) -> tuple[str | None, Recipe | None, ModelConfig, TrainingConfig]:
    """Preset, recipe, model and training settings of a YAML or JSON file written by `diffae config`.

    Raises:
        DataError: the file cannot be read.
        ConfigError: it holds something else, or a setting that is not allowed.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(
            f"config {path}: cannot be read ({str(error).splitlines()[0]}); name a YAML or JSON file"
        ) from None
    if not isinstance(found, dict) or "model" not in found or "training" not in found or set(found) - set(_KEYS):
        raise ConfigError(f"config {path}: must have the keys {', '.join(_KEYS)}; `diffae config` prints an example")
    try:
        model = from_dict(ModelConfig, found["model"], trust_code=common.trust_code)
        training = from_dict(TrainingConfig, found["training"], trust_code=common.trust_code)
    except ConfigError as error:
        raise ConfigError(f"config {path}: {error}") from None
    return found.get("preset"), found.get("recipe"), model, training


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
