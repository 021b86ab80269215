"""`diffae train`: train a model on a set of images, and write a run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from diffae.cli import train_messages
from diffae.cli.options import by_preset, optional, window_of
from diffae.cli.terminal import note
from diffae.cli.train_plan import DEFAULT_PRESET, Plan, fresh, resumed
from diffae.config import EncoderInput
from diffae.console import console, progress
from diffae.data.cache import cache_folder
from diffae.distributed import broadcast, in_turns, is_main, world_size
from diffae.errors import ConfigError, DataError
from diffae.interrupts import exit_code
from diffae.presets import Recipe
from diffae.training.settings import Optimizer, Precision
from diffae.training.trackers import TrackerName, require_installed

if TYPE_CHECKING:
    from diffae.data.pack import Pack
    from diffae.evaluation.features import FeatureNetwork

Preset = Literal[
    "small32", "small64", "small128", "latent256", "latent512", "celeba64", "ffhq64", "ffhq128", "horse128",
    "bedroom128", "ffhq256",
]  # fmt: skip


@dataclass(frozen=True)
class Train:
    """Train a diffusion autoencoder on your images.

    Ctrl-C saves; --resume continues, with the run's own settings.
    """

    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Images: a folder (with the folders in it), .zip, array, TIFF, HDF5, Zarr, NIfTI or DICOM file, LMDB, WebDataset
    shards, hf://owner/name, or a pack."""
    out: Path
    """Run folder to make."""
    preset: Annotated[Preset | None, arg(help_behavior_hint=f"(default: {DEFAULT_PRESET})")] = None
    """Named settings; the options below change them."""
    recipe: Annotated[Recipe | None, arg(help_behavior_hint="(default: default)")] = None
    """Training recipe: "default" learns a better z_sem from the same images, "paper" is that of Table 5."""
    config: Annotated[Path | None, optional] = None
    """Settings in YAML or JSON, as `diffae config` prints them, in place of a preset; the options below change them."""
    image_size: Annotated[int | None, by_preset] = None
    """Height and width of the square images in pixels."""
    channels: Annotated[int | None, by_preset] = None
    """1 for grey, 3 for colour, or as many as the files have."""
    first_stage: Annotated[str | None, optional] = None
    """Diffuse latents: space-to-depth:N or haar:N, which lose nothing, or diffusers:SOURCE, the folder or Hub id of an
    AutoencoderKL, AutoencoderDC, AutoencoderTiny, VQModel or AutoencoderRAE."""
    encoder_input: Annotated[EncoderInput | None, by_preset] = None
    """What the encoder sees: the pixels, or the latents of the first stage, which is faster for large images."""
    encoder: Annotated[str | None, optional] = None
    """Pretrained network whose features z_sem is a trained map of: timm:NAME, hf:NAME, FILE.onnx or torchscript:FILE (a
    file with @unit, @symmetric or @imagenet for its range, and @SIZE for its size, where needed)."""
    learnt: int | None = None
    """With --encoder: how many numbers of z_sem an encoder of its own adds, for what the pretrained network ignores."""
    no_encoder: bool = False
    """Train the UNet alone, without z_sem: the paper's DDIM baseline."""
    z_sem_channels: Annotated[int | None, by_preset] = None
    """Size of z_sem."""
    images: Annotated[int | None, by_preset] = None
    """Length of training: images seen."""
    batch_size: Annotated[int | None, by_preset] = None
    """Images per step, over all processes."""
    accumulation: Annotated[int | None, by_preset] = None
    """Parts into which a batch is split, to save memory."""
    learning_rate: Annotated[float | None, by_preset] = None
    """Step size of the optimiser."""
    optimizer: Annotated[Optimizer | None, by_preset] = None
    """"muon" learns more from as many images, "adam" is the paper's."""
    seed: Annotated[int | None, by_preset] = None
    """Seed of every random number."""
    contrastive: Annotated[float | None, by_preset] = None
    """Weight of the contrastive loss between views of an image. Use 0 to measure brightness or size."""
    hog: Annotated[float | None, by_preset] = None
    """Weight of the loss that predicts histograms of oriented gradients (HOG) from z_sem. Use 0 if images decoded from
    z_sem alone matter more than linear probes of it."""
    distill_from: Annotated[str | None, optional] = None
    """Network trained on more images, whose feature vectors z_sem learns to predict: an ONNX or TorchScript file, as
    for `diffae evaluate --features`. The model does not need it later."""
    no_flip: bool = False
    """Do not mirror images (presets mirror half of them)."""
    precision: Annotated[Precision | None, by_preset] = None
    """Mixed precision: "auto" uses bfloat16 if the machine is faster with it."""
    validate_every: Annotated[int | None, by_preset] = None
    """Images between validations, with their pictures."""
    save_every: Annotated[int | None, by_preset] = None
    """Images between checkpoints."""
    labels: Annotated[Path | None, optional] = None
    """Table of labels whose column "split" says which images to train on ("train") and to validate on ("val")."""
    crop: Annotated[str | None, optional] = None
    """Region to cut out of each image first: left,top,right,bottom in pixels, or celeba."""
    background: Annotated[str | None, arg(help_behavior_hint="(default: 255,255,255)")] = None
    """Colour red,green,blue behind transparent pixels."""
    window: Annotated[str | None, optional] = None
    """Values of the files that become black and white: auto (minimum and maximum of each channel), percentile (0.1 and
    99.9 %), or --window=LOW,HIGH for all channels or one pair after the other. The default is the whole range of uint8
    or uint16; other types need a window."""
    strict: bool = False
    """Stop at an image that cannot be read, instead of leaving it out."""
    cache: Annotated[Path | None, arg(help_behavior_hint="(default: ~/.cache/diffae/packs)")] = None
    """Folder for the decoded images."""
    resume: bool = False
    """Continue the run in --out from where it was saved; begin it if nothing was saved yet."""
    overwrite: bool = False
    """Replace the run in --out."""
    track: Annotated[tuple[TrackerName, ...], arg(metavar="[{tensorboard,wandb,mlflow,trackio} ...]")] = ()
    """Experiment trackers to which numbers and pictures also go. Each is a package to install."""

    def run(self) -> int:
        """Train; 130 or 143 when interrupted."""
        if self.resume and self.overwrite:
            raise ConfigError("resume and overwrite are both given: continue the run or replace it; drop one")
        require_installed(self.track)
        main = is_main()
        plan, resume = _planned(self)
        if main and not resume:
            train_messages.warn_of_attention(plan.model)
        from diffae.training.autoencoder import train_autoencoder

        network = plan.open_network()
        with in_turns():
            pack = _pack(self, plan, main=main)
        plan.check_images(self, pack)
        plan = plan.reading(pack)
        if main:
            train_messages.tell_start(self, plan, pack, network)
        with in_turns():
            vectors = _vectors(network, pack, main=main) if network else None
        finished = train_autoencoder(
            pack,
            self.out,
            plan.model,
            plan.training,
            features=vectors,
            data=plan.noted(self.photos, pack, network),
            resume=resume,
            overwrite=self.overwrite or self.resume,
            track=self.track,
        )
        if main:
            train_messages.tell_end(self, plan, pack, finished)
        return 0 if finished else exit_code()


def _planned(command: Train) -> tuple[Plan, bool]:
    """What is to be trained, and whether it continues from something saved."""
    from diffae import checkpoint

    resume = command.resume and broadcast(_saved(command.out))  # processes agree, wherever they see the folder
    begun = resume or (command.resume and (command.out / checkpoint.CONFIG).is_file())
    plan = resumed(command) if begun else fresh(command)
    _check(command, plan, begun=begun)
    if is_main() and command.resume and not resume:
        note(f"nothing is saved in {command.out} yet: training begins")
    return plan, resume


def _saved(out: Path) -> bool:
    """Whether a run has saved anything to resume from, or to lose."""
    from diffae import checkpoint
    from diffae.training.state import STATE

    return any((out / name).is_file() for name in (STATE, checkpoint.WEIGHTS))


def _check(command: Train, plan: Plan, *, begun: bool) -> None:
    """Refuse, before images are decoded, what the training would refuse."""
    from diffae.training.autoencoder import refuse_differences, refuse_existing
    from diffae.training.trainer import require_even_shares

    out = command.out.resolve()
    for name, path in (("the photos", command.photos), ("the cache", command.cache or cache_folder())):
        if path.resolve().is_relative_to(out):
            raise ConfigError(f"out is {command.out}: must not hold {name}, {path}; choose another --out")
    if begun:
        refuse_differences(command.out, plan.model, plan.training)
    else:
        refuse_existing(command.out, overwrite=command.overwrite or command.resume)
    require_even_shares(plan.training, world_size())
    there = next(folder for folder in (out, *out.parents) if os.path.exists(folder))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written" if there.is_dir() else "is not a folder"
        raise DataError(f"cannot write {command.out}: {there} {why}; choose another --out")


def _pack(command: Train, plan: Plan, *, main: bool) -> Pack:
    from diffae.data.build import build_pack
    from diffae.data.sources import divided
    from diffae.training.held_out import MINIMUM_IMAGES

    model, given = plan.model, plan.model.input
    window = window_of(command.window, model.image_channels)
    return build_pack(
        divided(command.photos, plan.labels, model.image_channels) if plan.labels else command.photos,
        command.cache or cache_folder(),
        size=model.image_size,
        channels=model.image_channels,
        crop=given.crop,
        background=given.background,
        window=window if isinstance(window, str) else given.window,
        strict=command.strict,
        at_least=MINIMUM_IMAGES,
        progress=main,
    )


def _vectors(network: FeatureNetwork, pack: Pack, *, main: bool) -> Path:
    """The file of the network's vectors of all images, made if it is not there yet."""
    from diffae.data.feature_cache import vectors_file

    with progress(f"vectors of {network.name}", len(pack), output=console(quiet=not main)) as done:
        return vectors_file(pack, network, done)
