"""Named settings: the paper's Table 5 (Preechakul et al., CVPR 2022) and smaller networks for modest machines.

Each comes with one of two training recipes: the paper's, and one from which z_sem learns more (docs/recipe.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from diffae.config import ModelConfig, PriorConfig, UNetConfig, UNetEncoderConfig
from diffae.errors import require_choice
from diffae.training.settings import ContrastiveConfig, HOGConfig, TrainingConfig

Recipe = Literal["default", "paper"]
Preset = tuple[ModelConfig, TrainingConfig]


def _large(size: int, width: int, mult: tuple[int, ...], batch: int, images: int) -> Preset:
    """A column of Table 5; the encoder has one more level than the UNet."""
    decoder = UNetConfig(width, mult)
    encoder = UNetEncoderConfig(model_channels=width, channel_mult=(*mult, mult[-1]))
    training = TrainingConfig(images=images, batch_size=batch, ema_warmup=False, val_images=1024)
    return ModelConfig(size, decoder=decoder, encoder=encoder), training


def _small(size: int, mult: tuple[int, ...], patch_size: int = 1, width: int = 32) -> Preset:
    """Networks that a laptop can train, with batch size and learning rate for runs of some thousand steps.

    All work on 32 x 32 positions, which are pixels, patches of pixels, or latents (docs/resolution.md).
    """
    shared = {"model_channels": width, "res_blocks": 1, "attention_resolutions": (8,), "patch_size": patch_size}
    decoder = UNetConfig(channel_mult=mult, time_channels=128, dropout=0.0, **shared)
    encoder = UNetEncoderConfig(128, channel_mult=(*mult, mult[-1]), **shared)
    return ModelConfig(size, decoder=decoder, encoder=encoder), TrainingConfig(learning_rate=3e-4)


def _latent(size: int, mult: tuple[int, ...], patch_size: int = 1, width: int = 32) -> Preset:
    """Small networks for the latents, of an eighth of the images' side, of a first stage that the user names."""
    model, training = _small(size, mult, patch_size, width)
    return replace(model, encoder_input="latents"), training


def _improved(name: str, model: ModelConfig, training: TrainingConfig) -> Preset:
    """The default recipe, from which z_sem learns more from the same images (docs/recipe.md).

    The learning rate falls with the network's width; the small batch is for networks that fill a machine with it. Small
    networks normalise 8 groups of channels: 32 would leave some of them a channel each.
    """
    assert isinstance(model.decoder, UNetConfig)
    assert isinstance(model.encoder, UNetEncoderConfig)
    width, small = model.decoder.model_channels, name.startswith(("small", "latent"))
    groups = 8 if small else model.decoder.norm_groups
    training = replace(
        training,
        batch_size=32 if small else training.batch_size,
        learning_rate=1e-3 * 32 / width,
        optimizer="muon",
        warmup_images=10_000,
        cooldown=0.2,
        level_sampling="middle",
        auxiliary_losses=(ContrastiveConfig(0.1), HOGConfig(0.3)),
        ema_warmup=True,
    )
    model = replace(
        model,
        decoder=replace(model.decoder, z_map_channels=3 * width // 16, upsampling="last", norm_groups=groups),
        encoder=replace(model.encoder, pooling="flatten", norm_groups=groups),
        diffusion=replace(model.diffusion, prediction="v"),
    )
    return model, training


def presets(recipe: Recipe = "default") -> dict[str, Preset]:
    """Named settings: small networks, and the paper's Table 5, each with the settings of a recipe.

    `latent256` and `latent512` are made for a first stage that divides the sides of images by 8, to be set as
    `ModelConfig.first_stage`.

    Args:
        recipe: "paper" is Table 5 exactly: eps, linear schedule, uniform levels, Adam at 1e-4, EMA 0.9999, and the
            networks of the published weights; the small networks, which the paper does not have, use 3e-4 and batches
            of 64. "default" is ours (docs/recipe.md), on the same networks except for two linear layers and the place
            of upsampling.

    Training lengths of the paper's presets are Table 5's. The published templates train longer: 72 M images for ffhq64
    and 200 M for ffhq256.
    """
    require_choice("recipe", recipe, Recipe)
    paper = {
        "small32": _small(32, (1, 2, 2)),
        "small64": _small(64, (1, 2, 3), patch_size=2),
        "small128": _small(128, (1, 2, 3), patch_size=4, width=48),
        "latent256": _latent(256, (1, 2, 2)),
        "latent512": _latent(512, (1, 2, 3), patch_size=2, width=48),
        "celeba64": _large(64, 64, (1, 2, 4, 8), 128, 72_000_000),
        "ffhq64": _large(64, 64, (1, 2, 4, 8), 128, 48_000_000),
        "ffhq128": _large(128, 128, (1, 1, 2, 3, 4), 128, 130_000_000),
        "horse128": _large(128, 128, (1, 1, 2, 3, 4), 128, 130_000_000),
        "bedroom128": _large(128, 128, (1, 1, 2, 3, 4), 128, 120_000_000),
        "ffhq256": _large(256, 128, (1, 1, 2, 2, 4, 4), 64, 90_000_000),
    }
    return paper if recipe == "paper" else {name: _improved(name, *settings) for name, settings in paper.items()}


def _prior_large(layers: int, batch: int, decay: float, codes: int) -> tuple[PriorConfig, TrainingConfig]:
    """A column of Table 6."""
    training = TrainingConfig(images=codes, batch_size=batch, weight_decay=decay, ema_warmup=False)
    return PriorConfig(layers), replace(training, validate_every=codes // 20, save_every=codes // 20)


def _prior_small() -> tuple[PriorConfig, TrainingConfig]:
    """For the z_sem of a small network: trains in minutes on a CPU."""
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
    """The latent prior for each preset: the paper's Table 6, and a smaller one for the small networks.

    Training lengths are in codes, those of the published templates.
    """
    return {
        "small32": _prior_small(),
        "small64": _prior_small(),
        "small128": _prior_small(),
        "latent256": _prior_small(),
        "latent512": _prior_small(),
        "celeba64": _prior_large(10, 512, 0.01, 301_000_000),
        "ffhq64": _prior_large(10, 256, 0.01, 101_000_000),
        "ffhq128": _prior_large(10, 256, 0.01, 101_000_000),
        "horse128": _prior_large(20, 2048, 0.0, 2_001_000_000),
        "bedroom128": _prior_large(20, 2048, 0.0, 2_001_000_000),
        "ffhq256": _prior_large(10, 256, 0.01, 101_000_000),
    }
