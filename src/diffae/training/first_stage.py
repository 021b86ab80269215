"""Training of a first stage: an AutoencoderKL of diffusers, for images that no public one fits.

The loss is the mean absolute error of the decoded image, plus a small divergence of the latents from N(0, I) (Rombach
et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022), without a perceptual or adversarial
term: details are smooth rather than invented.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from diffae import checkpoint
from diffae.console import Update
from diffae.console import console as terminal
from diffae.data.batches import Batch, BatchStream
from diffae.data.image_set import ImageSet
from diffae.data.images import to_float, to_tensor, to_unit
from diffae.errors import CheckpointError, ConfigError, require
from diffae.plotting import save_sheet, sheet, tiles_of
from diffae.training.autoencoder import mix, refuse_existing
from diffae.training.held_out import held_out
from diffae.training.logger import Logger
from diffae.training.settings import TrainingConfig
from diffae.training.state import STATE
from diffae.training.trainer import train

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""The file that diffusers reads weights from, beside config.json."""

_PICTURES, _PART = 8, 8


@dataclass(frozen=True)
class FirstStageTraining:
    """An AutoencoderKL and its loss."""

    factor: int = 4
    """How many times smaller the latents' sides are: a power of 2, at least 2."""
    latent_channels: int = 4
    """Channels of the latents."""
    width: int = 32
    """Channels of the first level, a multiple of 8, which double at each further one, up to four times the first."""
    divergence: float = 1e-6
    """Weight of the divergence from N(0, I), per number of the latents."""

    def __post_init__(self) -> None:
        factor = self.factor
        require(factor >= 2 and factor & (factor - 1) == 0, "factor", factor, "must be a power of 2, at least 2")
        require(self.latent_channels >= 1, "latent_channels", self.latent_channels, "must be at least 1")
        require(self.width >= 8 and self.width % 8 == 0, "width", self.width, "must be a multiple of 8")
        require(self.divergence >= 0, "divergence", self.divergence, "must not be negative")

    def build(self, channels: int, size: int) -> nn.Module:
        """The autoencoder, with new weights.

        Raises:
            ConfigError: diffusers is not installed, or the factor does not divide the size of the images.
        """
        require(size % self.factor == 0, "image_size", size, f"must be divisible by the factor, {self.factor}")
        try:
            from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        except ImportError as error:
            raise ConfigError("diffusers is not installed: pip install 'diffae[diffusers]'") from error
        levels = self.factor.bit_length()
        build: Any = AutoencoderKL  # whose blocks are typed as tuples of one
        return build(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(self.width * min(2**level, 4) for level in range(levels)),
            latent_channels=self.latent_channels,
            norm_num_groups=8,
            sample_size=size,
            mid_block_add_attention=False,
        )


class _Reconstruction(nn.Module):
    """The autoencoder with its loss as one module."""

    def __init__(self, network: nn.Module, divergence: float) -> None:
        super().__init__()
        self.network, self.divergence = network, divergence

    def forward(self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b k h2 w2"]) -> Float[Tensor, ""]:
        network: Any = self.network
        posterior = network.encode(images).latent_dist
        back = network.decode(posterior.mean + posterior.std * noise).sample
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        return (back.float() - images).abs().mean() + self.divergence * divergence.float()


class FirstStageTask:
    """Training of an autoencoder on images (a `diffae.training.trainer.Task`).

    Args:
        network: the AutoencoderKL.
        settings: the loss.
        config: how it is trained.
        images: the images; some are held out for validation.
        folder: for the autoencoder and pictures.
    """

    def __init__(
        self, network: nn.Module, settings: FirstStageTraining, config: TrainingConfig, images: ImageSet, folder: Path
    ) -> None:
        self.settings, self.config, self.images, self.folder = settings, config, images, folder
        self.networks: nn.Module = _Reconstruction(network, settings.divergence)
        self.rows, val_rows = held_out(images, config)
        self.val_images = to_tensor(images.fetch(val_rows))

    def batches(self, start: int, rank: int, world_size: int) -> Iterator[Batch]:
        """This process's rows of the batches from step `start` on."""
        config = self.config
        return BatchStream(
            self.images, self.rows, config.batch_size, config.seed, config.flip, rank, world_size
        ).iterate(start)

    def losses(
        self, networks: nn.Module, batch: Batch, step: int, device: torch.device, parts: int
    ) -> Iterator[Tensor]:
        """The loss on each part of the batch; noise is drawn for the whole global batch from (seed, step)."""
        side, generator = self.images.size // self.settings.factor, torch.Generator(device)
        generator.manual_seed(mix(self.config.seed, step))
        shape = (self.config.batch_size, self.settings.latent_channels, side, side)
        noise = torch.randn(shape, generator=generator, device=device)[torch.from_numpy(batch.rows).to(device)]
        images = to_float(batch.images.to(device, non_blocking=True))
        for part in zip(images.chunk(parts), noise.chunk(parts), strict=True):
            yield networks(*part)

    @torch.inference_mode()
    def validate(self, networks: nn.Module, images: int, update: Update) -> dict[str, float]:
        """Mean squared error of images decoded from the means of their latents, in [0, 1]; pictures in samples/."""
        network: Any = networks.network
        network.eval()
        device = next(network.parameters()).device
        parts: list[Tensor] = []
        for some in self.val_images.split(_PART):
            parts.append(network.decode(network.encode(some.to(device)).latent_dist.mode()).sample.cpu())
            update(100 * sum(map(len, parts)) // len(self.val_images))
        back = torch.cat(parts)
        rows = {"image": self.val_images[:_PICTURES], "decoded": back[:_PICTURES]}
        save_sheet(self.folder / "samples" / f"{images:09d}.png", sheet([*map(tiles_of, rows.values())], list(rows)))
        return {"val_mse": (to_unit(back) - to_unit(self.val_images)).square().mean().item()}

    def validated(self) -> None:
        """Nothing more."""

    def export(self, networks: nn.Module) -> None:
        """The averaged autoencoder, as diffusers' `from_pretrained` reads it."""
        self.write_config()
        network: Any = networks.network
        checkpoint.write_tensors(self.folder / WEIGHTS, network.state_dict(), {"format": "pt"})

    def write_config(self) -> None:
        """config.json, as diffusers writes it."""
        network: Any = self.networks.network
        with checkpoint.written_beside(self.folder / checkpoint.CONFIG) as temporary:
            temporary.write_text(network.to_json_string())


def train_first_stage(
    images: ImageSet,
    folder: str | Path,
    settings: FirstStageTraining,
    config: TrainingConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> bool:
    """Train an autoencoder in a folder that `DiffusersConfig.read` and diffusers' `from_pretrained` load.

    Args:
        images: a pack; `val_images` of them, chosen by name, are held out.
        folder: the folder.
        settings: the autoencoder.
        config: how it is trained; auxiliary losses and level sampling have no meaning here.
        resume: continue from the state last saved.
        overwrite: replace an autoencoder that exists.
        console: where progress goes; by default standard error.

    Returns:
        True at the end; False when interrupted by Ctrl-C or SIGTERM, with the state saved.

    Raises:
        ConfigError: diffusers is not installed, or the factor does not divide the size of the images.
        DataError: too few images.
        CheckpointError: a folder in use, or nothing there to resume with these settings.
        TrainingError: the loss is not finite, or the disk is full.
    """
    folder = Path(folder)
    torch.manual_seed(config.seed)  # weights are initialised from PyTorch's global generator
    network = settings.build(images.channels, images.size)
    task = FirstStageTask(network, settings, replace(config, auxiliary_losses=()), images, folder)
    if resume:
        _refuse_other_settings(folder, network)
    else:
        refuse_existing(folder, overwrite=overwrite)
        (folder / STATE).unlink(missing_ok=True)
        task.write_config()
    logger = Logger(folder, config.images, console or terminal())
    return train(task, task.config, folder, logger, resume=resume)


def _refuse_other_settings(folder: Path, network: Any) -> None:
    path = folder / checkpoint.CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no first stage to resume: train it without --resume")
    there, here = json.loads(path.read_text(encoding="utf-8")), json.loads(network.to_json_string())
    for name in sorted(here.keys() - {"_name_or_path"}):
        if there.get(name) != here[name]:
            what = f"has {name} = {there.get(name)}, not {here[name]}"
            raise CheckpointError(f"{folder} {what}: resume it with the same settings")
