"""The settings of a run, from the options of `diffae train`, or with those of a run that is resumed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffae.cli import common
from diffae.cli.options import background_of, crop_of, window_of
from diffae.cli.terminal import warn
from diffae.config import ModelConfig, UNetEncoderConfig
from diffae.errors import CheckpointError, ConfigError, DataError, require
from diffae.networks.first_stages.settings import DiffusersConfig, first_stage_of
from diffae.networks.foundation.settings import FoundationConfig
from diffae.presets import Recipe, presets
from diffae.training.settings import ContrastiveConfig, DistillationConfig, HOGConfig, TrainingConfig

if TYPE_CHECKING:
    from diffae.cli.train import Train
    from diffae.data.pack import Pack
    from diffae.evaluation.features import FeatureNetwork

DEFAULT_PRESET = "small32"


@dataclass(frozen=True)
class Plan:
    """The settings of a new run, or of one that is resumed."""

    preset: str
    recipe: Recipe
    model: ModelConfig
    training: TrainingConfig
    data: dict[str, Any] = field(default_factory=dict)
    """What config.json says of the data, in a run that is resumed."""
    distill_from: str | None = None
    """The network that is distilled, as the user named it."""
    network_key: str | None = None
    """Key of the network that the run began with."""
    labels: Path | None = None
    """The table whose column "split" says which images to train on."""

    def open_network(self) -> FeatureNetwork | None:
        """The network that is distilled, if one is.

        Raises:
            DataError: there is no such network, or it gives no vectors of such images.
            CheckpointError: it is not the network that the run began with.
        """
        if self.distill_from is None:
            return None
        from diffae.evaluation.features import FeatureNetwork
        from diffae.evaluation.known_features import check_channels

        check_channels(self.model.image_shape)
        network, source = FeatureNetwork.open(self.distill_from), f"--distill-from {self.distill_from}"
        if "vectors" not in network.gives(self.model.image_size):
            raise DataError(f"{source} gives no feature vectors: name a network with an output (b, d)")
        if self.network_key not in (None, network.key):
            raise CheckpointError(f"{source} is another network than the run began with: name that one")
        return network

    def check_images(self, command: Train, pack: Pack) -> None:
        """Compare the images of a run that is resumed with those it began with.

        Raises:
            CheckpointError: they have other names. The same names with other times or sizes are only warned about.
        """
        if self.data.get("key") in (None, pack.index["key"]):
            return
        if self.data.get("names", pack.names_digest()) != pack.names_digest():
            began = f"{self.data['count']:,} images of {self.data['source']}"
            what = f"{command.out} was trained on {began}, not on the {len(pack):,} of {command.photos}"
            raise CheckpointError(f"{what}: resume it with those, or train in another folder")
        if self.data.get("split") != pack.split_digest():
            what = f"{command.out} was trained on other images: the column 'split' of {self.labels} has changed"
            raise CheckpointError(f"{what}; restore it, or train in another folder")
        warn(f"{command.photos} has changed since this run began: training continues with the present images")

    def reading(self, pack: Pack) -> Plan:
        """The plan with the window and type of these images."""
        given = replace(self.model.input, window=pack.window, dtype=pack.samples)
        return replace(self, model=replace(self.model, input=given))

    def noted(self, photos: Path, pack: Pack, network: FeatureNetwork | None) -> dict[str, Any]:
        """What config.json records about the data."""
        usual = presets(self.recipe)[self.preset][1].images
        about = {"preset": self.preset, "preset_images": usual, "recipe": self.recipe, "source": str(photos)}
        distilled = {"teacher": self.distill_from, "teacher_key": network.key} if network else {}
        labels = {"labels": str(self.labels)} if self.labels else {}
        return about | pack.record() | distilled | labels


def fresh(command: Train) -> Plan:
    """The preset's settings with the options given."""
    preset, recipe = command.preset or DEFAULT_PRESET, command.recipe or "default"
    if command.config is None:
        model, training = presets(recipe)[preset]
    else:
        from diffae.cli.config import read_settings

        if command.preset or command.recipe:
            raise ConfigError("config and preset or recipe are both given: the file holds all settings; drop one")
        of_file, of_recipe, model, training = read_settings(command.config)
        preset, recipe = of_file or preset, of_recipe or recipe
    model, training = _overridden(command, model, training)
    if preset.startswith("latent") and model.first_stage is None:
        remedy = "add --first-stage diffusers:SOURCE; `diffae train-first-stage` makes one"
        raise ConfigError(f"preset is {preset!r}, which needs a first stage of factor 8: {remedy}")
    if isinstance(model.encoder, FoundationConfig):  # views would need features of their own
        training = training.with_loss(ContrastiveConfig, command.contrastive or 0)
    if source := command.distill_from:
        require(model.has_encoder, "distill_from", source, "must be left out with --no-encoder; drop one")
        training = training.with_loss(DistillationConfig, DistillationConfig.weight)
    return Plan(preset, recipe, model, training, distill_from=source, labels=command.labels)


def resumed(command: Train) -> Plan:
    """The run's own settings with the options given, which `refuse_differences` compares."""
    from diffae import checkpoint
    from diffae.config import from_dict

    there = checkpoint.read_config(command.out)
    try:
        data, training = there["data"], from_dict(TrainingConfig, there["training"], trust_code=common.trust_code)
        model = checkpoint.read_model_config(command.out, trust_code=common.trust_code)
        source, network_key = (data["teacher"], data["teacher_key"]) if training.distils else (None, None)
        settings = _overridden(command, model, training)
        labels = Path(data["labels"]) if "labels" in data else None
        plan = Plan(data["preset"], data["recipe"], *settings, data, source, network_key, labels)
    except (KeyError, TypeError) as error:
        remedy = "resume it as it was started, from Python"
        raise CheckpointError(f"{command.out} was not trained by this command ({error} missing): {remedy}") from error
    if command.distill_from and not source:
        what = f"was trained without distillation, not from {command.distill_from}"
        raise CheckpointError(f"{command.out} {what}: drop --distill-from")
    for name in ("preset", "recipe", "labels"):
        if getattr(command, name) not in (None, getattr(plan, name)):
            was = f"was trained with {name} = {getattr(plan, name)}"
            raise CheckpointError(f"{command.out} {was}, not {getattr(command, name)}: resume it unchanged")
    return replace(plan, distill_from=command.distill_from or source)


def _overridden(command: Train, model: ModelConfig, training: TrainingConfig) -> tuple[ModelConfig, TrainingConfig]:
    """Settings with the options that were given."""
    if command.no_encoder and command.z_sem_channels:
        raise ConfigError(f"z_sem_channels is {command.z_sem_channels}: must be left out with --no-encoder; drop one")
    encoder = None if command.no_encoder or command.z_sem_channels == 0 else model.encoder
    if isinstance(encoder, UNetEncoderConfig) and command.z_sem_channels:
        encoder = replace(encoder, z_sem_channels=command.z_sem_channels)
    shape = {"image_size": command.image_size, "image_channels": command.channels}
    names = (
        "images", "batch_size", "accumulation", "learning_rate", "optimizer", "seed", "precision", "validate_every",
        "save_every",
    )  # fmt: skip
    settings: dict[str, Any] = {name: getattr(command, name) for name in names}
    settings["flip"] = False if command.no_flip else None
    window = window_of(command.window, command.channels or model.image_channels)
    cut = {"crop": crop_of(command.crop), "background": background_of(command.background)}
    given = replace(model.input, **_given(cut | {"window": None if isinstance(window, str) else window}))
    training = replace(training, **_given(settings))
    for option, kind in (("contrastive", ContrastiveConfig), ("hog", HOGConfig)):
        weight = getattr(command, option)
        training = training if weight is None else training.with_loss(kind, weight)
    model = replace(model, **_given(shape), encoder=encoder, input=given)
    return _with_encoder(command, _with_first_stage(command, model)), training


def _with_encoder(command: Train, model: ModelConfig) -> ModelConfig:
    """The model with the pretrained network that was named as its encoder."""
    own, learnt = model.encoder, None
    if command.encoder is None:
        require(command.learnt is None, "learnt", command.learnt, "must be left out without --encoder")
        return model
    require(own is not None, "encoder", command.encoder, "must be left out with --no-encoder; drop one")
    size = model.z_sem_channels
    if isinstance(own, FoundationConfig):  # of a run that is resumed
        learnt, size = own.learnt, command.z_sem_channels or size
    if command.learnt:
        rule = "needs a preset's encoder to learn from the start"
        require(isinstance(own, UNetEncoderConfig), "learnt", command.learnt, rule)
        assert isinstance(own, UNetEncoderConfig)
        learnt = replace(own, z_sem_channels=command.learnt)
    encoder = FoundationConfig.read(command.encoder, model.image_shape, size, learnt)
    return replace(model, encoder=encoder)


def _with_first_stage(command: Train, model: ModelConfig) -> ModelConfig:
    """The model with the first stage that was named; it keeps the normalisation of its own, if that is the same."""
    if command.first_stage is not None:
        stage, own = first_stage_of(command.first_stage, model.image_shape), model.first_stage
        if isinstance(stage, DiffusersConfig) and isinstance(own, DiffusersConfig) and stage.key == own.key:
            stage = replace(stage, mean=own.mean, std=own.std)
        model = replace(model, first_stage=stage)
    return replace(model, **_given({"encoder_input": command.encoder_input}))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
