"""Named settings: the paper's Table 5 (Preechakul et al., CVPR 2022) and two smaller networks for modest machines.

Each comes with one of two recipes of training: the paper's, and the one found to teach z_sem more (docs/recipe.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from diffae.config import ModelConfig, NetworkConfig, PriorConfig, TrainingConfig
from diffae.errors import require_choice

Recipe = Literal["default", "paper"]

PRIOR_STEPS = 100
"""Solver steps of the latent prior: its network is small, so that they cost little beside one of the decoder's."""


TEACHING = 0.3
"""Weight of a teacher's lesson, where one is given: three times that of the contrast (docs/recipe.md)."""


def _large(size: int, width: int, mult: tuple[int, ...], batch: int, images: int) -> tuple[ModelConfig, TrainingConfig]:
    """A column of Table 5; the encoder adds one level to the UNet's."""
    network = NetworkConfig(size, 3, width, mult, encoder_channel_mult=(*mult, mult[-1]))
    return ModelConfig(network), TrainingConfig(images=images, batch_size=batch, ema_warmup=False, val_images=1024)


def _small(size: int, mult: tuple[int, ...]) -> tuple[ModelConfig, TrainingConfig]:
    """Networks that a laptop trains, with batch and learning rate for runs of some thousand steps."""
    network = NetworkConfig(
        size,
        3,
        32,
        mult,
        res_blocks=1,
        attention_resolutions=(8,),
        time_channels=128,
        dropout=0.0,
        z_sem_channels=128,
        encoder_channel_mult=(*mult, mult[-1]),
        encoder_res_blocks=1,
    )
    return ModelConfig(network), TrainingConfig(learning_rate=3e-4)


def _improved(name: str, model: ModelConfig, training: TrainingConfig) -> tuple[ModelConfig, TrainingConfig]:
    """The default recipe: what was found to teach z_sem more from the same images (docs/recipe.md).

    The learning rate falls with the network's width; the small batch is for networks that fill a machine with it.
    """
    width = model.network.model_channels
    network = replace(model.network, encoder_pooling="flatten", z_map_channels=3 * width // 16, upsampling="last")
    batch = 32 if name.startswith("small") else training.batch_size
    training = replace(
        training,
        batch_size=batch,
        learning_rate=1e-3 * 32 / width,
        optimizer="muon",
        warmup_images=10_000,
        cooldown=0.2,
        level_sampling="middle",
        contrast=0.1,
        orientations=0.3,
        ema_warmup=True,
    )
    return replace(model, network=network, diffusion=replace(model.diffusion, prediction="v")), training


def presets(recipe: Recipe = "default") -> dict[str, tuple[ModelConfig, TrainingConfig]]:
    """Named settings: two small networks, and the paper's Table 5, each with the settings of a recipe.

    Args:
        recipe: "paper" is Table 5 to the letter: eps, linear schedule, levels drawn evenly, Adam 1e-4, EMA 0.9999, the
            published weights' layout; the small networks, which the paper does not have, take 3e-4 and batches of 64.
            "default" is ours (docs/recipe.md), on the same networks but for two linear layers and the place where
            feature maps are doubled.

    The lengths of training in the paper's presets are the published templates'.
    """
    require_choice("recipe", recipe, Recipe)
    paper = {
        "small32": _small(32, (1, 2, 2)),
        "small64": _small(64, (1, 2, 2, 4)),
        "celeba64": _large(64, 64, (1, 2, 4, 8), 128, 72_000_000),
        "ffhq64": _large(64, 64, (1, 2, 4, 8), 128, 72_000_000),
        "ffhq128": _large(128, 128, (1, 1, 2, 3, 4), 128, 130_000_000),
        "horse128": _large(128, 128, (1, 1, 2, 3, 4), 128, 130_000_000),
        "bedroom128": _large(128, 128, (1, 1, 2, 3, 4), 128, 120_000_000),
        "ffhq256": _large(256, 128, (1, 1, 2, 2, 4, 4), 64, 200_000_000),
    }
    return paper if recipe == "paper" else {name: _improved(name, *settings) for name, settings in paper.items()}


def _prior_large(layers: int, batch: int, decay: float, codes: int) -> tuple[PriorConfig, TrainingConfig]:
    """A column of Table 6."""
    training = TrainingConfig(images=codes, batch_size=batch, weight_decay=decay, ema_warmup=False)
    return PriorConfig(layers), replace(training, validate_every=codes // 20, save_every=codes // 20)


def _prior_small() -> tuple[PriorConfig, TrainingConfig]:
    """What the z_sem of a small network needs: some minutes on a CPU."""
    training = TrainingConfig(
        images=2_000_000,
        batch_size=256,
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup_images=50_000,
        validate_every=200_000,
        save_every=500_000,
    )
    return PriorConfig(layers=6, hidden_channels=256), training


def prior_presets() -> dict[str, tuple[PriorConfig, TrainingConfig]]:
    """The latent prior that belongs to each preset: the paper's Table 6, and a smaller one for the small networks.

    Lengths of training are in codes, the published templates'.
    """
    return {
        "small32": _prior_small(),
        "small64": _prior_small(),
        "celeba64": _prior_large(10, 512, 0.01, 301_000_000),
        "ffhq64": _prior_large(10, 256, 0.01, 101_000_000),
        "ffhq128": _prior_large(10, 256, 0.01, 101_000_000),
        "horse128": _prior_large(20, 2048, 0.0, 2_001_000_000),
        "bedroom128": _prior_large(20, 2048, 0.0, 2_001_000_000),
        "ffhq256": _prior_large(10, 256, 0.01, 101_000_000),
    }
