"""Named settings: the paper's Tables 5 and 6, and the small networks."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffae.config import DiffusersConfig, ModelConfig, UNetConfig, UNetEncoderConfig, from_dict, to_dict
from diffae.errors import ConfigError
from diffae.model import DiffusionModule
from diffae.presets import Recipe, presets, prior_presets
from diffae.training.settings import ContrastiveConfig, HOGConfig

# paper, Table 5: image size, base channels, channel multipliers, batch size, millions of images
TABLE_5 = {
    "celeba64": (64, 64, (1, 2, 4, 8), 128, 72),
    "ffhq64": (64, 64, (1, 2, 4, 8), 128, 48),
    "ffhq128": (128, 128, (1, 1, 2, 3, 4), 128, 130),
    "horse128": (128, 128, (1, 1, 2, 3, 4), 128, 130),
    "bedroom128": (128, 128, (1, 1, 2, 3, 4), 128, 120),
    "ffhq256": (256, 128, (1, 1, 2, 2, 4, 4), 64, 90),
}
SMALL = ("small32", "small64", "small128", "latent256", "latent512")
NAMES = [*TABLE_5, *SMALL]


@cache
def on_meta(config: ModelConfig) -> DiffusionModule:
    """A model without memory; several presets have the same networks."""
    with torch.device("meta"):
        return DiffusionModule(config, first_stage=nn.Identity() if config.first_stage else None)


def with_latents(name: str, recipe: Recipe = "default") -> ModelConfig:
    """A preset's model; those for latents with a first stage, which is not built."""
    model = presets(recipe)[name][0]
    staged = name.startswith("latent")
    return replace(model, first_stage=DiffusersConfig("theirs", latent_channels=4, factor=8)) if staged else model


def parts(model: ModelConfig) -> tuple[UNetConfig, UNetEncoderConfig]:
    assert isinstance(model.decoder, UNetConfig)
    assert isinstance(model.encoder, UNetEncoderConfig)
    return model.decoder, model.encoder


def shared(part: UNetConfig | UNetEncoderConfig) -> tuple[Any, ...]:
    return part.model_channels, part.res_blocks, part.attention_resolutions, part.heads


@pytest.mark.parametrize("name", TABLE_5)
def test_paper_presets_are_table_5(name: str) -> None:
    model, training = presets("paper")[name]
    (decoder, encoder), diffusion = parts(model), model.diffusion
    size, width, mult, batch, millions = TABLE_5[name]
    assert model.image_shape == model.latent_shape == (3, size, size)
    assert shared(decoder) == shared(encoder) == (width, 2, (16,), 1)
    assert (decoder.channel_mult, encoder.channel_mult) == (mult, (*mult, mult[-1]))
    assert (decoder.time_channels, decoder.dropout, encoder.z_sem_channels) == (512, 0.1, 512)
    assert (diffusion.schedule, diffusion.levels, diffusion.prediction) == ("linear", 1000, "eps")
    assert (training.batch_size, training.images) == (batch, millions * 1_000_000)
    assert training.learning_rate == 1e-4
    assert training.ema_decay == 0.9999
    assert (training.ema_warmup, training.warmup_images, training.cooldown) == (False, 0, 0)
    assert (training.weighting, training.level_sampling, training.optimizer) == ("uniform", "uniform", "adam")
    assert training.auxiliary_losses == ()
    layout = (encoder.pooling, decoder.z_map_channels, decoder.upsampling)
    assert layout == ("average", 0, "first")  # that of the published weights
    assert decoder.norm_groups == encoder.norm_groups == 32


@pytest.mark.parametrize("name", NAMES)
def test_the_default_recipe_is_as_documented(name: str) -> None:
    (model, training), (paper, theirs) = presets()[name], presets("paper")[name]
    (decoder, encoder), width = parts(model), parts(paper)[0].model_channels
    assert (encoder.pooling, decoder.z_map_channels, decoder.upsampling) == ("flatten", 3 * width // 16, "last")
    assert decoder.norm_groups == encoder.norm_groups == (8 if name in SMALL else 32)
    assert model.diffusion.prediction == "v"
    assert training.learning_rate == pytest.approx(1e-3 * 32 / width)
    assert training.batch_size == (32 if name in SMALL else theirs.batch_size)
    assert (training.optimizer, training.level_sampling, training.ema_warmup) == ("muon", "middle", True)
    assert (training.warmup_images, training.cooldown) == (10_000, 0.2)
    assert training.auxiliary_losses == (ContrastiveConfig(0.1), HOGConfig(0.3))
    assert (training.images, training.val_images) == (theirs.images, theirs.val_images)


def test_small32_is_as_documented() -> None:
    model, _ = presets()["small32"]
    decoder, encoder = parts(model)
    assert shared(decoder) == shared(encoder) == (32, 1, (8,), 1)
    assert (model.image_size, decoder.channel_mult) == (32, (1, 2, 2))
    assert (encoder.channel_mult, encoder.z_sem_channels) == ((1, 2, 2, 2), 128)


def flops(name: str, **changes: Any) -> int:
    """Floating-point operations of one image's pass through encoder and decoder."""
    config = replace(with_latents(name), **changes)
    model = on_meta(config)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        seen = torch.empty(1, *config.encoder_shape)
        model(torch.empty(1, *config.latent_shape), torch.zeros(1, dtype=torch.int64), seen)
    return counter.get_total_flops()


def test_small_networks_cost_little_more_for_larger_images() -> None:
    """All work on 32 x 32 positions: the cost of an image grows with the width of the network, not with the image."""
    pixels = replace(parts(presets()["small64"][0])[0], patch_size=1, channel_mult=(1, 2, 2, 4))
    encoder = replace(parts(presets()["small64"][0])[1], patch_size=1, channel_mult=(1, 2, 2, 4, 4))
    assert flops("small64") < flops("small64", decoder=pixels, encoder=encoder) / 3
    assert flops("small128") < 3 * flops("small64")
    assert flops("latent256") == pytest.approx(flops("small32"), rel=0.02)
    assert flops("latent512") == pytest.approx(flops("small128"), rel=0.1)


def test_names_and_recipes() -> None:
    for recipe in get_args(Recipe):
        assert list(presets(recipe)) == list(prior_presets())
        assert set(presets(recipe)) == set(NAMES)
    with pytest.raises(ConfigError, match="recipe is 'best': choose one of default, paper"):
        presets("best")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", NAMES)
def test_the_recipes_train_networks_of_one_size(name: str) -> None:
    """Within a tenth, so that their comparison is of recipes."""

    def parameters(recipe: Recipe) -> int:
        return sum(p.numel() for p in on_meta(with_latents(name, recipe)).parameters())

    assert parameters("paper") < parameters("default") < 1.1 * parameters("paper")


@pytest.mark.parametrize("recipe", get_args(Recipe))
def test_presets_build_networks_that_run(recipe: Recipe) -> None:
    for config in {model for model, _ in presets(recipe).values()}:
        shape = (2, *config.image_shape)
        with torch.device("meta"):
            x = torch.empty(shape)
            assert on_meta(config).call_encoder(x).shape == (2, config.z_sem_channels)
            assert on_meta(config)(x, torch.zeros(2, dtype=torch.int64), x).shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_through_json(name: str) -> None:
    for settings in (*presets()[name], *prior_presets()[name]):
        again = from_dict(type(settings), json.loads(json.dumps(to_dict(settings))))
        assert again == settings  # tuples come back as tuples, nested settings as settings
        assert hash(again) == hash(settings)


@pytest.mark.parametrize(
    ("name", "layers", "batch", "decay"),
    [("celeba64", 10, 512, 0.01), ("ffhq256", 10, 256, 0.01), ("horse128", 20, 2048, 0)],
)
def test_prior_presets_are_table_6(name: str, layers: int, batch: int, decay: float) -> None:
    config, training = prior_presets()[name]
    assert (config.layers, config.hidden_channels, config.loss) == (layers, 2048, "l1")
    assert config.diffusion.schedule == "constant"
    assert (training.batch_size, training.weight_decay, training.learning_rate) == (batch, decay, 1e-4)
    assert training.ema_decay == 0.9999
