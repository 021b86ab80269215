"""`diffae train-first-stage`: train an image autoencoder whose latents `diffae train --first-stage` diffuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from diffae.cli.terminal import say
from diffae.console import console
from diffae.data.cache import cache_folder
from diffae.interrupts import exit_code


@dataclass(frozen=True)
class TrainFirstStage:
    """Train an image autoencoder for `diffae train --first-stage`, an AutoencoderKL of diffusers.

    Ctrl-C saves; --resume continues.
    """

    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Images, as for `diffae train`."""
    out: Path
    """Folder to make, which diffusers reads, too."""
    factor: int = 4
    """How many times smaller the latents' sides are: a power of 2."""
    latent_channels: int = 4
    """Channels of the latents."""
    width: int = 32
    """Channels of the autoencoder's first level."""
    image_size: int = 256
    """Height and width of the square images in pixels."""
    channels: int = 3
    """Channels of the images."""
    images: int = 100_000
    """Length of training: images seen."""
    batch_size: int = 16
    """Images per step."""
    learning_rate: float = 3e-4
    """Step size of Adam."""
    seed: int = 0
    """Seed of every random number."""
    cache: Annotated[Path | None, arg(help_behavior_hint="(default: ~/.cache/diffae/packs)")] = None
    """Folder for the decoded images."""
    resume: bool = False
    """Continue the training in --out from where it was saved."""
    overwrite: bool = False
    """Replace the first stage in --out."""

    def run(self) -> int:
        """Train; 130 or 143 when interrupted."""
        from diffae.data.build import build_pack
        from diffae.training.autoencoder import refuse_existing
        from diffae.training.first_stage import FirstStageTraining, train_first_stage
        from diffae.training.held_out import MINIMUM_IMAGES
        from diffae.training.settings import TrainingConfig

        settings = FirstStageTraining(self.factor, self.latent_channels, self.width)
        settings.build(self.channels, self.image_size)  # refused before images are decoded
        training = TrainingConfig(
            images=self.images,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_images=min(self.images // 10, 2_000),
            cooldown=0.2,
            val_images=64,
            seed=self.seed,
        )
        if not self.resume:
            refuse_existing(self.out, overwrite=self.overwrite)
        cache = self.cache or cache_folder()
        how = {"size": self.image_size, "channels": self.channels, "at_least": MINIMUM_IMAGES, "progress": True}
        pack = build_pack(self.photos, cache, **how)
        flags = {"resume": self.resume, "overwrite": self.overwrite, "console": console()}
        if not train_first_stage(pack, self.out, settings, training, **flags):
            say(f"Interrupted; everything is saved in {self.out}. Continue with the same command and --resume.")
            return exit_code()
        say(f"The first stage is in {self.out}, with pictures in {self.out / 'samples'}.")
        say("Try now:", f"    diffae train {self.photos} --out runs/latent --first-stage diffusers:{self.out}")
        return 0
