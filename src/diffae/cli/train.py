"""`diffae train`: a folder of images becomes a run folder with a model."""

from __future__ import annotations

import importlib.util
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from diffae.cli.common import (
    cache_folder,
    describe_validation,
    error_console,
    images_seen,
    last_validation,
    say,
    tell_skipped,
    warn,
)
from diffae.cli.inputs import background_of, crop_of, tell_values, window_of
from diffae.cli.teaching import open_teacher, vectors_of
from diffae.config import ModelConfig, NetworkConfig, Optimizer, Precision, TrainingConfig
from diffae.errors import CheckpointError, ConfigError, DataError, require
from diffae.presets import TEACHING, Recipe, presets

if TYPE_CHECKING:
    from diffae.data.pack import Pack
    from diffae.evaluation.features import FeatureNetwork

Preset = Literal["small32", "small64", "celeba64", "ffhq64", "ffhq128", "horse128", "bedroom128", "ffhq256"]
_DEFAULT_PRESET = "small32"
_preset = arg(help_behavior_hint="(default: the preset's)")
_optional = arg(help_behavior_hint="(optional)")


@dataclass(frozen=True)
class Train:
    """Train a diffusion autoencoder on your images. Ctrl-C saves; --resume continues, with the run's own settings."""

    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Images: a folder (with the folders in it), .zip, array, TIFF, HDF5, Zarr, NIfTI or DICOM file, LMDB, WebDataset
    shards, hf://owner/name, or a pack."""
    out: Path
    """Run folder to make."""
    preset: Annotated[Preset | None, arg(help_behavior_hint=f"(default: {_DEFAULT_PRESET})")] = None
    """Named settings; the options below change them."""
    recipe: Annotated[Recipe | None, arg(help_behavior_hint="(default: default)")] = None
    """How the preset is trained: "default" teaches z_sem more from the same images, "paper" is as in Table 5."""
    image_size: Annotated[int | None, _preset] = None
    """Side of the square images in pixels."""
    channels: Annotated[int | None, _preset] = None
    """1 gray, 3 colour, or as many as the files have."""
    no_encoder: bool = False
    """Train the UNet alone, without z_sem: the paper's DDIM baseline."""
    z_sem_channels: Annotated[int | None, _preset] = None
    """Size of z_sem."""
    images: Annotated[int | None, _preset] = None
    """Length of training: images seen."""
    batch_size: Annotated[int | None, _preset] = None
    """Images per step, over all processes."""
    accumulation: Annotated[int | None, _preset] = None
    """Parts into which a batch is split, to bound memory."""
    learning_rate: Annotated[float | None, _preset] = None
    """The optimiser's step size."""
    optimizer: Annotated[Optimizer | None, _preset] = None
    """"muon" learns more from as many images, "adam" is the paper's."""
    seed: Annotated[int | None, _preset] = None
    """Start of every random number."""
    contrast: Annotated[float | None, _preset] = None
    """Weight of the contrast between views of images. 0 where brightness or size is what you will measure."""
    orientations: Annotated[float | None, _preset] = None
    """Weight of telling which way edges run. 0 where pictures from z_sem alone count more than what it tells."""
    teacher: Annotated[str | None, _optional] = None
    """A network that has seen more images, whose vectors z_sem is to tell as well: an ONNX or TorchScript file, as of
    `diffae evaluate --features`. The model does not need it later."""
    no_flip: bool = False
    """Do not mirror images (presets mirror half of them)."""
    precision: Annotated[Precision | None, _preset] = None
    """bfloat16 where the machine is faster with it ("auto"), or stated."""
    validate_every: Annotated[int | None, _preset] = None
    """Images between validations, with their pictures."""
    save_every: Annotated[int | None, _preset] = None
    """Images between checkpoints."""
    crop: Annotated[str | None, _optional] = None
    """What to cut out of each image first: left,top,right,bottom in pixels, or celeba."""
    background: Annotated[str | None, arg(help_behavior_hint="(default: 255,255,255)")] = None
    """Colour red,green,blue behind transparent pixels."""
    window: Annotated[str | None, _optional] = None
    """Values of the files that become black and white: auto (the least and largest of each channel), percentile (0.1
    and 99.9 % of them), or stated, as --window=LOW,HIGH, for all channels or one pair after the other. Without it, the
    whole range of uint8 or uint16; other types need one."""
    strict: bool = False
    """Stop at an image that cannot be read, instead of leaving it out."""
    cache: Annotated[Path | None, arg(help_behavior_hint="(default: ~/.cache/diffae/packs)")] = None
    """Folder where the decoded images are kept."""
    resume: bool = False
    """Continue the run in --out from where it was saved."""
    overwrite: bool = False
    """Replace the run in --out."""
    tensorboard: bool = False
    """Also write TensorBoard events."""

    def run(self) -> int:
        """Train; 130 when interrupted."""
        if self.resume and self.overwrite:
            raise ConfigError("resume and overwrite are both given: continue the run or replace it; drop one")
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            remedy = "pip install 'diffae[tensorboard]', or drop --tensorboard"
            raise ConfigError(f"tensorboard is asked for but not installed: {remedy}")
        main = os.environ.get("RANK", "0") == "0"  # of several processes
        plan = _resumed(self) if self.resume else _fresh(self)
        _check(self, plan)
        if main and not self.resume:
            _warn_of_attention(plan.model.network)
        from diffae.training.autoencoder import train_autoencoder

        teacher = open_teacher(plan.teacher, plan.teacher_key, plan.model)
        pack = _pack(self, plan, main=main)
        plan = plan.reading(pack)
        if main:
            _tell_start(self, plan, pack, teacher)
        vectors = vectors_of(teacher, pack, main=main) if teacher else None
        finished = train_autoencoder(
            pack,
            self.out,
            plan.model,
            plan.training,
            vectors=vectors,
            data=plan.noted(self.photos, pack, teacher),
            resume=self.resume,
            overwrite=self.overwrite,
            tensorboard=self.tensorboard,
        )
        if main:
            _tell_end(self, pack, finished)
        return 0 if finished else 130


@dataclass(frozen=True)
class _Plan:
    """What a command line, or a run that is resumed, asks for."""

    preset: str
    recipe: str
    model: ModelConfig
    training: TrainingConfig
    key: str | None = None
    """Of the images that the run began with."""
    teacher: str | None = None
    """The network whose vectors z_sem is to tell, as it was named."""
    teacher_key: str | None = None
    """Of the network that the run began with."""

    def reading(self, pack: Pack) -> _Plan:
        """With the values that these images were read by."""
        given = replace(self.model.input, window=pack.window, dtype=pack.samples)
        return replace(self, model=replace(self.model, input=given))

    def noted(self, photos: Path, pack: Pack, teacher: FeatureNetwork | None) -> dict[str, Any]:
        """What config.json says of the data."""
        about = {"preset": self.preset, "recipe": self.recipe, "source": str(photos), "count": len(pack)}
        taught = {"teacher": self.teacher, "teacher_key": teacher.key} if teacher else {}
        return about | {"key": pack.index["key"]} | taught


def _fresh(command: Train) -> _Plan:
    preset = command.preset or _DEFAULT_PRESET
    recipe = command.recipe or "default"
    model, training = _overridden(command, *presets(recipe)[preset])
    if command.teacher:
        require(model.network.has_encoder, "teacher", command.teacher, "must be left out with --no-encoder; drop one")
        training = replace(training, teaching=TEACHING)
    return _Plan(preset, recipe, model, training, teacher=command.teacher)


def _resumed(command: Train) -> _Plan:
    """The run's own settings with those given, which `refuse_differences` compares."""
    from diffae import checkpoint
    from diffae.config import from_dict

    there = checkpoint.read_config(command.out)
    try:
        data, training = there["data"], from_dict(TrainingConfig, there["training"])
        model = checkpoint.read_model_config(command.out)
        teacher, teacher_key = (data["teacher"], data["teacher_key"]) if training.teaching else (None, None)
        settings = _overridden(command, model, training)
        plan = _Plan(data["preset"], data["recipe"], *settings, data["key"], command.teacher or teacher, teacher_key)
    except (KeyError, TypeError) as error:
        remedy = "resume it as it was started, from Python"
        raise CheckpointError(f"{command.out} was not trained by this command ({error} missing): {remedy}") from error
    if command.teacher and not teacher:
        raise CheckpointError(
            f"{command.out} was trained without a teacher, not with {command.teacher}: drop --teacher"
        )
    for name in ("preset", "recipe"):
        if getattr(command, name) not in (None, getattr(plan, name)):
            was = f"was trained with {name} = {getattr(plan, name)}"
            raise CheckpointError(f"{command.out} {was}, not {getattr(command, name)}: resume it unchanged")
    return plan


def _overridden(command: Train, model: ModelConfig, training: TrainingConfig) -> tuple[ModelConfig, TrainingConfig]:
    """Settings with the options that were given."""
    if command.no_encoder and command.z_sem_channels:
        raise ConfigError(f"z_sem_channels is {command.z_sem_channels}: must be left out with --no-encoder; drop one")
    z_sem = 0 if command.no_encoder else command.z_sem_channels
    shape = {"image_size": command.image_size, "image_channels": command.channels, "z_sem_channels": z_sem}
    names = (
        "images", "batch_size", "accumulation", "learning_rate", "optimizer", "contrast", "orientations", "seed",
        "precision", "validate_every", "save_every",
    )  # fmt: skip
    settings: dict[str, Any] = {name: getattr(command, name) for name in names}
    settings["flip"] = False if command.no_flip else None
    cut = {"crop": crop_of(command.crop), "background": background_of(command.background)}
    network = replace(model.network, **_given(shape))
    window = window_of(command.window, network.image_channels)
    stated = {"window": None if isinstance(window, str) else window}
    given = replace(model.input, **_given(cut | stated))
    return replace(model, network=network, input=given), replace(training, **_given(settings))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _check(command: Train, plan: _Plan) -> None:
    """Refuse, before images are decoded, what the training would refuse."""
    from diffae.training.autoencoder import refuse_differences, refuse_existing
    from diffae.training.trainer import require_even_shares

    out = command.out.resolve()
    for name, path in (("the photos", command.photos), ("the cache", command.cache or cache_folder())):
        if path.resolve().is_relative_to(out):
            raise ConfigError(f"out is {command.out}: must not hold {name}, {path}; choose another --out")
    if command.resume:
        refuse_differences(command.out, plan.model, plan.training)
    else:
        refuse_existing(command.out, overwrite=command.overwrite)
    require_even_shares(plan.training, int(os.environ.get("WORLD_SIZE", "1")))
    there = next(folder for folder in (out, *out.parents) if os.path.exists(folder))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written" if there.is_dir() else "is not a folder"
        raise DataError(f"cannot write {command.out}: {there} {why}; choose another --out")


def _warn_of_attention(network: NetworkConfig) -> None:
    """Warn where --image-size has moved the UNet's levels away from its attention."""
    sizes = [network.image_size >> level for level in range(len(network.channel_mult))]
    if network.attention_resolutions and not set(sizes) & set(network.attention_resolutions):
        wanted = ", ".join(map(str, network.attention_resolutions))
        have = f"the UNet's levels have {', '.join(map(str, sizes))} pixels, none of them {wanted}"
        warn(f"{have}: it attends at its bottleneck only; a preset made for images of this size does so elsewhere too")


def _pack(command: Train, plan: _Plan, *, main: bool) -> Pack:
    from diffae.data.build import build_pack
    from diffae.training.autoencoder import MINIMUM_IMAGES

    network = plan.model.network
    window = window_of(command.window, network.image_channels)
    return build_pack(
        command.photos,
        command.cache or cache_folder(),
        size=network.image_size,
        channels=network.image_channels,
        crop=plan.model.input.crop,
        background=plan.model.input.background,
        window=window if isinstance(window, str) else plan.model.input.window,
        strict=command.strict,
        at_least=MINIMUM_IMAGES,
        progress=main,
    )


def _tell_start(command: Train, plan: _Plan, pack: Pack, teacher: FeatureNetwork | None) -> None:
    tell_skipped(pack.skipped, f" (all are listed in {pack.path / 'index.json'})")
    if plan.key not in (None, pack.index["key"]):
        warn(f"{command.photos} has changed since this run began: it goes on with the images there are now")
    tell_values(pack)
    network, training = plan.model.network, plan.training
    taught = f", taught by {teacher.name}" if teacher else ""
    error_console().print(
        f"{len(pack):,} images of {pack.size} x {pack.size} x {pack.channels} · preset {plan.preset} · "
        f"{'z_sem of ' + str(network.z_sem_channels) if network.has_encoder else 'no encoder'}{taught} · "
        f"{training.images:,} images to see, {training.batch_size} at a time · Ctrl-C saves and stops",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _tell_end(command: Train, pack: Pack, finished: bool) -> None:
    if not finished:
        say(
            f"Interrupted after {images_seen(command.out):,} images; everything is saved in {command.out}. To continue:"
        )
        say(f"    {_resume_command(command)}")
        return
    figures = last_validation(command.out)
    say(f"The model is in {command.out}, with pictures in {command.out / 'samples'}.")
    if figures:
        say(f"validation after {figures['images']:,} images: {describe_validation(figures)}")
    example = photo if (photo := command.photos / pack.names[0]).is_file() else Path("a.png")
    next_one = ["diffae", "reconstruct", str(command.out), str(example), "--out", f"{command.out}-out"]
    say(f"Try now:\n    {shlex.join(next_one)}")


def _resume_command(command: Train) -> str:
    words = ["diffae", "train", str(command.photos), "--out", str(command.out), "--resume"]
    if command.cache:
        words += ["--cache", str(command.cache)]
    if command.tensorboard:
        words.append("--tensorboard")
    return shlex.join(words)
