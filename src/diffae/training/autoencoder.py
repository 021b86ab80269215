"""Training of the autoencoder or the paper's DDIM baseline: the loss of Eq. 6, validation, the run folder."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import Dataset

from diffae import checkpoint
from diffae.config import ModelConfig, from_dict, to_dict
from diffae.console import Update
from diffae.console import console as terminal
from diffae.data.batches import Batch, BatchStream
from diffae.data.dataset_images import DatasetImages
from diffae.data.image_set import ImageSet
from diffae.data.images import to_float
from diffae.data.locks import in_use
from diffae.data.stored_views import StoredViews
from diffae.deprecation import renamed
from diffae.diffusion.schedules import draw_levels
from diffae.distributed import in_turns, processes
from diffae.errors import CheckpointError, DataError, require
from diffae.model import DiffusionAutoencoder
from diffae.networks.first_stages.pretrained import Autoencoder
from diffae.networks.foundation.settings import FoundationConfig
from diffae.training.auxiliary_losses.base import AuxiliaryBatch, ModelWithLosses
from diffae.training.auxiliary_losses.contrastive import NUMBERS, view
from diffae.training.auxiliary_losses.distillation import TargetFeatures
from diffae.training.held_out import held_out
from diffae.training.latents import FEATURES, LATENTS, store_parts
from diffae.training.logger import SAMPLES, Logger
from diffae.training.metrics import TOO_EARLY, gap, z_sem_unused
from diffae.training.report import write_report
from diffae.training.settings import ContrastiveConfig, TrainingConfig
from diffae.training.trackers import Tracker, TrackerName, require_installed
from diffae.training.trainer import require_even_shares, train
from diffae.training.validation import Validation

CHANGEABLE = ("images", "save_every", "validate_every", "learning_rate", "cooldown", "precision")
"""Settings that may change when a run is resumed: its length, and what helps after it diverged."""


class AutoencoderTask:
    """Training of a diffusion autoencoder on images (a `diffae.training.trainer.Task`).

    Args:
        model: what is trained.
        config: how.
        images: the images; some are held out for validation.
        folder: the run folder.
        data: plain values to store about the data in config.json.
        console: for warnings.
        features: targets of distillation.
        stored: what pretrained parts give of the images, from `store_parts`.
    """

    def __init__(
        self,
        model: DiffusionAutoencoder,
        config: TrainingConfig,
        images: ImageSet,
        folder: Path,
        data: dict[str, Any],
        console: Console,
        features: TargetFeatures | None = None,
        stored: Mapping[str, StoredViews] = MappingProxyType({}),
    ) -> None:
        self.model, self.config, self.images, self.features = model, config, images, features
        self.folder, self.data, self.console = folder, data, console
        self.stored = stored
        self.networks: nn.Module = model
        if model.encoder is not None and config.auxiliary_losses:
            self.networks = ModelWithLosses(model, config, features.size if features else 0)
        self.needs_view = isinstance(self.networks, ModelWithLosses) and self.networks.needs_view
        self.train_rows, val_rows = held_out(images, config)
        self.validation = Validation(images.fetch(val_rows), model.config, config.seed, folder / SAMPLES)

    def batches(self, start: int, rank: int, world_size: int) -> Iterator[Batch]:
        """This process's rows of the batches from step `start` on."""
        config = self.config
        stream = BatchStream(
            self.images, self.train_rows, config.batch_size, config.seed, config.flip, rank, world_size, self.stored
        )
        return stream.iterate(start)

    def losses(
        self, networks: nn.Module, batch: Batch, step: int, device: torch.device, parts: int
    ) -> Iterator[Tensor]:
        """Eq. 6 plus the auxiliary losses on each part of the batch.

        Levels, noise and views are drawn for the whole global batch from (seed, step), and this process takes its rows:
        the number of processes changes nothing except with which images one is contrasted, and a resumed run draws the
        same as an uninterrupted one.
        """
        size = self.config.batch_size
        generator = torch.Generator(device).manual_seed(mix(self.config.seed, step))
        images = to_float(batch.images.to(device, non_blocking=True))
        rows = torch.from_numpy(batch.rows).to(device, non_blocking=True)
        levels = self.model.process.levels
        t = draw_levels(self.config.level_sampling, levels, size, generator)[rows]
        eps = torch.randn((size, *self.model.config.latent_shape), generator=generator, device=device)[rows]
        x_0 = self._latents(images, batch)
        seen, pixels = self.model.seen_of(images, x_0), self.model.config.encoder_input == "pixels"
        views: list[Tensor] | list[None] = [None] * parts
        if self.needs_view:
            numbers = torch.rand((size, NUMBERS), generator=generator, device=device)[rows]
            views = list(view(seen, numbers, mirrored=self.config.flip, recoloured=pixels).chunk(parts))
        features: list[Tensor] | list[None] = [None] * parts
        if self.features:
            features = list(self.features.of(batch.indices).to(device, non_blocking=True).chunk(parts))
        given: list[Tensor] | list[None] = [None] * parts
        if FEATURES in batch.stored:
            given = list(batch.stored[FEATURES].to(device, non_blocking=True).chunk(parts))
        torch.manual_seed(mix(self.config.seed, step, int(batch.rows[0])))  # dropout takes no generator
        whole = (images.chunk(parts), x_0.chunk(parts), seen.chunk(parts), t.chunk(parts), eps.chunk(parts))
        for part in zip(*whole, views, given, features, strict=True):
            yield self._loss(networks, *part)

    @torch.no_grad()
    def _latents(self, images: Float[Tensor, "b k H W"], batch: Batch) -> Float[Tensor, "b c h w"]:
        """x_0 of a batch: computed before, or now."""
        stage = self.model.first_stage
        if isinstance(stage, Autoencoder) and LATENTS in batch.stored:
            return stage.normalised(batch.stored[LATENTS].to(images.device, non_blocking=True))
        return self.model.to_latents(images)

    def _loss(
        self,
        networks: nn.Module,
        images: Float[Tensor, "b k H W"],
        x_0: Float[Tensor, "b c h w"],
        seen: Float[Tensor, "b k2 H2 W2"],
        t: Int[Tensor, " b"],
        eps: Float[Tensor, "b c h w"],
        other_view: Float[Tensor, "b k2 H2 W2"] | None,
        given: Float[Tensor, "b f"] | None,
        targets: Float[Tensor, "b d"] | None,
    ) -> Float[Tensor, ""]:
        process, auxiliary = self.model.process, 0.0
        scales = process.scales(t, x_0.dim())
        x_t = scales.add_noise(x_0, eps)
        if isinstance(self.networks, ModelWithLosses):
            output, auxiliary = networks(x_t, t - 1, AuxiliaryBatch(images, targets), seen, other_view, given)
        else:
            output = networks(x_t, t - 1, seen, given)
        return process.loss(output, x_0, eps, scales, self.config.weighting) + auxiliary  # Eq. 6

    def validate(self, networks: nn.Module, images: int, update: Update) -> dict[str, float]:
        """Validation loss with right and shuffled z_sem, reconstruction from z_sem; pictures in samples/."""
        metrics = self.validation.measure(_model(networks), images, update)
        if images > TOO_EARLY and z_sem_unused(metrics):
            rise = f"shuffling it raises the loss by only {max(gap(metrics) or 0, 0):.1%}"
            text = f"warning: after {images:,} images z_sem is hardly used: {rise}"
            self.console.print(text, soft_wrap=True)
        return metrics

    def validated(self) -> None:
        """Write the page of the run, report.html."""
        write_report(self.folder)

    def write_config(self) -> None:
        """config.json: the settings, which make the folder a run folder."""
        checkpoint.write_config(self.folder, self.model.config, training=to_dict(self.config), data=self.data)

    def export(self, networks: nn.Module) -> None:
        """model.safetensors, the averaged weights, and config.json."""
        self.write_config()
        checkpoint.write_tensors(self.folder / checkpoint.WEIGHTS, checkpoint.own_state(_model(networks)), {})
        shutil.rmtree(replaced(self.folder), ignore_errors=True)


def _model(networks: nn.Module) -> DiffusionAutoencoder:
    """The model without the layers of auxiliary losses."""
    model = networks.model if isinstance(networks, ModelWithLosses) else networks
    assert isinstance(model, DiffusionAutoencoder)
    return model


def mix(*numbers: int) -> int:
    """One seed from several numbers, well mixed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def refuse_differences(folder: Path, model: ModelConfig, config: TrainingConfig, *, trust_code: bool = False) -> None:
    """Raise `CheckpointError` where the run in this folder cannot be resumed with these settings."""
    there = checkpoint.read_config(folder)
    compare_settings(folder, to_dict(model), to_dict(checkpoint.read_model_config(folder, trust_code=trust_code)))
    if "training" not in there:
        what = f"{folder / checkpoint.CONFIG} has no 'training'"
        raise CheckpointError(f"{what}: no run to resume, only a saved model; train in another folder")
    wanted = to_dict(config)
    old = to_dict(from_dict(TrainingConfig, there["training"], trust_code=trust_code))
    compare_settings(folder, wanted, old | {name: wanted[name] for name in CHANGEABLE})


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Raise `CheckpointError` where a new run must not be put: a file, or a folder with files in it.

    With `overwrite`, a run folder may be replaced. Hidden files do not count: a killed process may have left them.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file: choose another --out, for a folder")
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return
    if not overwrite:
        raise CheckpointError(f"{folder} exists already: continue it with --resume, or replace it with --overwrite")
    if not (folder / checkpoint.CONFIG).is_file():
        raise CheckpointError(f"{folder} is not a run folder, so --overwrite does not touch it: choose another --out")


def compare_settings(folder: Path, wanted: dict[str, Any], there: dict[str, Any]) -> None:
    """Raise `CheckpointError` at the first setting that differs."""
    for name, value in wanted.items():
        if isinstance(value, dict) and isinstance(there.get(name), dict):
            compare_settings(folder, value, there[name])
        elif value != there.get(name):
            was = f"was trained with {name} = {there.get(name)}, not {value}"
            raise CheckpointError(f"{folder} {was}: resume it unchanged")


@renamed(vectors="features", pack="images")
def train_autoencoder(
    images: ImageSet | Dataset,
    folder: str | Path,
    model: ModelConfig | DiffusionAutoencoder,
    config: TrainingConfig,
    *,
    features: str | Path | None = None,
    data: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    track: Sequence[TrackerName] = (),
    console: Console | None = None,
) -> bool:
    """Train on images, in a run folder that `DiffusionAutoencoder.from_pretrained` loads.

    Args:
        images: a pack, or any torch `Dataset` of images; `val_images` of them, chosen by name, are held out.
        folder: the run folder.
        model: what to train, its settings or the model itself; its size and channels must be those of the images.
        config: how.
        features: if the losses include distillation, a .npy file with a feature vector (n, k) for each image, in the
            order of `images`; `diffae.data.feature_cache` makes one.
        data: plain values to store about the data in config.json.
        resume: continue from the state last saved; the result is that of an uninterrupted run.
        overwrite: replace a run folder that exists.
        track: experiment trackers to which numbers and pictures also go.
        console: where progress goes; by default standard error. Only the first of several processes prints.

    Returns:
        True at the end; False when interrupted by Ctrl-C or SIGTERM, with the state saved.

    Raises:
        ConfigError: features without distillation, distillation without features or without an encoder, a tracker
            that is not installed.
        DataError: too few images, or of another size or number of channels; features that do not match them.
        CheckpointError: a folder in use, or nothing there to resume with these settings.
        TrainingError: the loss is not finite, or the disk is full.
    """
    require_installed(track)
    folder, console = Path(folder), console or terminal()
    images = images if isinstance(images, ImageSet) else DatasetImages(images)
    settings = model.config if isinstance(model, DiffusionAutoencoder) else model
    _require_fit(images, settings, config, features)
    targets = TargetFeatures(Path(features), len(images)) if features is not None else None
    state = processes()
    require_even_shares(config, state.num_processes)  # before the folder is made
    console.quiet = not state.is_main_process
    torch.manual_seed(config.seed)  # weights are initialised from PyTorch's global generator
    network = model if isinstance(model, DiffusionAutoencoder) else DiffusionAutoencoder(model)
    with in_turns():
        stored = store_parts(network, images, held_out(images, config)[0], console, mirrored=config.flip)
    settings = network.config
    task = AutoencoderTask(network, config, images, folder, data or {}, console, targets, stored)
    if state.is_main_process:
        if resume:
            refuse_differences(folder, settings, config, trust_code=True)  # the same parts were just built
        else:
            _make_folder(task, overwrite=overwrite)
    state.wait_for_everyone()
    about = to_dict(settings) | {"training": to_dict(config)}
    trackers = [Tracker(name, folder, about) for name in track if state.is_main_process]
    logger = Logger(folder, config.images, console, trackers)
    return train(task, config, folder, logger, resume=resume)


def _require_fit(images: ImageSet, model: ModelConfig, config: TrainingConfig, features: str | Path | None) -> None:
    """Raise an error unless images, features and model belong together."""
    if (images.channels, images.size) != (model.image_channels, model.image_size):
        made = f"the model is made for {model.image_channels} x {model.image_size}"
        raise DataError(f"images are {images.channels} x {images.size} pixels: {made}")
    rule = "must not contrast views for an encoder with a pretrained network, whose features are computed once"
    contrasts = any(isinstance(loss, ContrastiveConfig) for loss in config.auxiliary_losses)
    pretrained = isinstance(model.encoder, FoundationConfig)
    require(not (contrasts and pretrained), "auxiliary_losses", config.auxiliary_losses, rule)
    rule = "distillation and features must be given together, for a model with an encoder"
    require(config.distils == (features is not None), "auxiliary_losses", config.auxiliary_losses, rule)
    require(not config.distils or model.has_encoder, "auxiliary_losses", config.auxiliary_losses, rule)


def replaced(folder: Path) -> Path:
    """Where the run that `--overwrite` replaces is kept until the new one has saved."""
    return folder.with_name(f".{folder.name}.replaced")


def _make_folder(task: AutoencoderTask, *, overwrite: bool) -> None:
    refuse_existing(task.folder, overwrite=overwrite)
    if (task.folder / checkpoint.CONFIG).is_file():
        with in_use(task.folder):
            pass  # nobody is training in it
        if (task.folder / checkpoint.WEIGHTS).is_file() or not replaced(task.folder).exists():
            shutil.rmtree(replaced(task.folder), ignore_errors=True)
            task.folder.rename(replaced(task.folder))
        else:
            # it had saved nothing, and the run before it, with which it will be removed, is still aside
            task.folder.rename(replaced(task.folder) / f"unsaved-{secrets.token_hex(4)}")
    task.write_config()
