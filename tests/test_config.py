"""Settings: the paper's tables, the rules and their messages, and the way to and from config.json."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, asdict
from typing import Any, get_args

import pytest
import torch

from diffae.config import (
    DiffusionConfig,
    InputConfig,
    ModelConfig,
    NetworkConfig,
    Sampling,
    TrainingConfig,
    from_dict,
)
from diffae.errors import ConfigError, DiffaeError
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.presets import Recipe, presets

# paper, Table 5: image size, base channels, channel multipliers, batch size
TABLE_5 = {
    "celeba64": (64, 64, (1, 2, 4, 8), 128),
    "ffhq64": (64, 64, (1, 2, 4, 8), 128),
    "ffhq128": (128, 128, (1, 1, 2, 3, 4), 128),
    "horse128": (128, 128, (1, 1, 2, 3, 4), 128),
    "bedroom128": (128, 128, (1, 1, 2, 3, 4), 128),
    "ffhq256": (256, 128, (1, 1, 2, 2, 4, 4), 64),
}


@pytest.mark.parametrize("name", TABLE_5)
def test_paper_presets_are_table_5(name: str) -> None:
    model, training = presets("paper")[name]
    network, diffusion = model.network, model.diffusion
    size, width, mult, batch = TABLE_5[name]
    assert (network.image_size, network.image_channels) == (size, 3)
    assert network.model_channels == width
    assert network.channel_mult == mult
    assert network.attention_resolutions == (16,)
    assert network.z_sem_channels == 512
    assert network.time_channels == 512
    assert network.encoder_channel_mult == (*mult, mult[-1])
    assert (network.res_blocks, network.encoder_res_blocks, network.heads) == (2, 2, 1)
    assert network.dropout == 0.1
    assert (diffusion.schedule, diffusion.levels, diffusion.prediction) == ("linear", 1000, "eps")
    assert training.batch_size == batch
    assert training.learning_rate == 1e-4
    assert training.ema_decay == 0.9999
    assert (training.ema_warmup, training.warmup_images, training.cooldown) == (False, 0, 0)
    assert (training.weighting, training.level_sampling, training.optimizer) == ("uniform", "uniform", "adam")
    layout = (network.encoder_pooling, network.z_map_channels, network.upsampling)
    assert layout == ("average", 0, "first")  # that of the published weights


def test_small32_is_as_documented() -> None:
    network = presets()["small32"][0].network
    assert (network.image_size, network.model_channels, network.channel_mult) == (32, 32, (1, 2, 2))
    assert (network.res_blocks, network.attention_resolutions) == (1, (8,))
    assert (network.encoder_channel_mult, network.z_sem_channels) == ((1, 2, 2, 2), 128)


@pytest.mark.parametrize("recipe", get_args(Recipe))
def test_every_preset_is_known(recipe: Recipe) -> None:
    assert set(presets(recipe)) == {*TABLE_5, "small32", "small64"}


def test_unknown_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match="recipe is 'best': choose one of default, paper"):
        presets("best")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", [*TABLE_5, "small32", "small64"])
def test_the_recipes_train_networks_of_one_size(name: str) -> None:
    """To within a tenth, so that comparing them compares recipes."""

    def parameters(recipe: Recipe) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in AutoencoderNetworks(presets(recipe)[name][0].network).parameters())

    assert parameters("paper") < parameters("default") < 1.1 * parameters("paper")


@pytest.mark.parametrize("recipe", get_args(Recipe))
@pytest.mark.parametrize("name", [*TABLE_5, "small32", "small64"])
def test_preset_builds_networks_that_run(name: str, recipe: Recipe) -> None:
    config = presets(recipe)[name][0].network
    shape = (2, config.image_channels, config.image_size, config.image_size)
    with torch.device("meta"):
        networks = AutoencoderNetworks(config)
        x = torch.empty(shape)
        assert networks.encoder is not None
        assert networks.encoder(x).shape == (2, config.z_sem_channels)
        assert networks(x, torch.zeros(2, dtype=torch.int64), x).shape == shape


RULES: list[tuple[type, dict[str, Any], str, str]] = [
    (NetworkConfig, {"image_size": 0}, "image_size is 0", "at least 1"),
    (NetworkConfig, {"image_size": 72}, "image_size is 72", "divisible by 16"),  # the encoder halves it 4 times
    (NetworkConfig, {"image_channels": 0}, "image_channels is 0", "at least 1"),
    (NetworkConfig, {"model_channels": 0}, "model_channels is 0", "at least 1"),
    (NetworkConfig, {"model_channels": 33}, "model_channels is 33", "even"),
    (NetworkConfig, {"channel_mult": ()}, "channel_mult is ()", "at least one level"),
    (NetworkConfig, {"channel_mult": (1, 0)}, "channel_mult is (1, 0)", "at least 1"),
    (NetworkConfig, {"encoder_channel_mult": ()}, "encoder_channel_mult is ()", "at least one level"),
    (NetworkConfig, {"encoder_channel_mult": (1, -2)}, "encoder_channel_mult is (1, -2)", "at least 1"),
    (NetworkConfig, {"res_blocks": 0}, "res_blocks is 0", "at least 1"),
    (NetworkConfig, {"encoder_res_blocks": 0}, "encoder_res_blocks is 0", "at least 1"),
    (NetworkConfig, {"heads": 0}, "heads is 0", "at least 1"),
    (NetworkConfig, {"heads": 3}, "heads is 3", "divide every level's width, here 64"),
    (NetworkConfig, {"time_channels": 0}, "time_channels is 0", "at least 1"),
    (NetworkConfig, {"z_sem_channels": -1}, "z_sem_channels is -1", "0 (no encoder) or more"),
    (NetworkConfig, {"encoder_pooling": "max"}, "encoder_pooling is 'max'", "average, flatten"),
    (NetworkConfig, {"upsampling": "never"}, "upsampling is 'never'", "first, last"),
    (NetworkConfig, {"z_map_channels": -1}, "z_map_channels is -1", "0 (none) or more"),
    (NetworkConfig, {"dropout": 1.0}, "dropout is 1.0", "[0, 1)"),
    (NetworkConfig, {"dropout": -0.1}, "dropout is -0.1", "[0, 1)"),
    (DiffusionConfig, {"schedule": "square"}, "schedule is 'square'", "linear, cosine, constant"),
    (DiffusionConfig, {"prediction": "x0"}, "prediction is 'x0'", "eps, v"),
    (DiffusionConfig, {"levels": 1}, "levels is 1", "at least 2"),
    (InputConfig, {"crop": "mars"}, "crop is 'mars'", "must be celeba or (left, top, right, bottom)"),
    (InputConfig, {"crop": (5, 0, 5, 9)}, "crop is (5, 0, 5, 9)", "0 <= left < right"),
    (InputConfig, {"crop": (0, 0, 5)}, "crop is (0, 0, 5)", "0 <= left < right"),
    (InputConfig, {"background": (0, 0, 256)}, "background is (0, 0, 256)", "three values 0..255"),
    (InputConfig, {"background": (0, 0)}, "background is (0, 0)", "three values 0..255"),
    (InputConfig, {"dtype": "int64"}, "dtype is 'int64'", "choose one of uint8"),
    (InputConfig, {"dtype": "float32"}, "dtype is 'float32'", "without a window"),
    (InputConfig, {"window": ((1, 0),)}, "window is ((1, 0),)", "a low and a higher number"),
    (InputConfig, {"window": ((0, math.inf),)}, "window is ((0, inf),)", "a low and a higher number"),
    (ModelConfig, {"input": InputConfig(window=((0, 1),))}, "window is ((0, 1),)", "each of 3 channels"),
    (TrainingConfig, {"images": 0}, "images is 0", "at least 1"),
    (TrainingConfig, {"batch_size": 0}, "batch_size is 0", "at least 1"),
    (TrainingConfig, {"accumulation": 0}, "accumulation is 0", "at least 1"),
    (TrainingConfig, {"validate_every": 0}, "validate_every is 0", "at least 1"),
    (TrainingConfig, {"save_every": 0}, "save_every is 0", "at least 1"),
    (TrainingConfig, {"val_images": 1}, "val_images is 1", "at least 2"),
    (TrainingConfig, {"warmup_images": -1}, "warmup_images is -1", "not be negative"),
    (TrainingConfig, {"cooldown": 1.5}, "cooldown is 1.5", "[0, 1]"),
    (TrainingConfig, {"learning_rate": 0.0}, "learning_rate is 0.0", "positive"),
    (TrainingConfig, {"learning_rate": float("nan")}, "learning_rate is nan", "positive"),
    (TrainingConfig, {"learning_rate": float("inf")}, "learning_rate is inf", "positive"),
    (TrainingConfig, {"ema_decay": 1.0}, "ema_decay is 1.0", "[0, 1)"),
    (TrainingConfig, {"clip_norm": 0.0}, "clip_norm is 0.0", "positive"),
    (TrainingConfig, {"weighting": "snr"}, "weighting is 'snr'", "uniform, min_snr"),
    (TrainingConfig, {"contrast": -0.1}, "contrast is -0.1", "0 (none) or more"),
    (TrainingConfig, {"contrast": float("nan")}, "contrast is nan", "0 (none) or more"),
    (TrainingConfig, {"orientations": -0.1}, "orientations is -0.1", "0 (none) or more"),
    (TrainingConfig, {"teaching": -0.1}, "teaching is -0.1", "0 (none) or more"),
    (TrainingConfig, {"level_sampling": "high"}, "level_sampling is 'high'", "uniform, middle"),
    (TrainingConfig, {"optimizer": "sgd"}, "optimizer is 'sgd'", "adam, muon"),
    (TrainingConfig, {"precision": "half"}, "precision is 'half'", "auto, float32, bfloat16"),
    (Sampling, {"steps": 0}, "steps is 0", "at least 1"),
    (Sampling, {"grid": "middle"}, "grid is 'middle'", "leading, trailing"),
    (Sampling, {"inversion": "magic"}, "inversion is 'magic'", "exact, explicit, official"),
    (Sampling, {"tolerance": 0.0}, "tolerance is 0.0", "positive"),
    (Sampling, {"tolerance": float("nan")}, "tolerance is nan", "positive"),
    (Sampling, {"max_iterations": 0}, "max_iterations is 0", "at least 1"),
    (Sampling, {"tolerance": float("inf")}, "tolerance is inf", "positive"),
    (Sampling, {"clip_x0": True}, "inversion is 'exact'", "clip_x0=False"),
    (Sampling, {"clip_x0": True, "inversion": "pair"}, "inversion is 'pair'", "clip_x0=False"),
    (Sampling, {"solver": "euler"}, "solver is 'euler'", "ddim, dpm++2m"),
    (Sampling, {"precision": "half"}, "precision is 'half'", "float32, float64, bfloat16"),
]


@pytest.mark.parametrize(("kind", "values", "what", "rule"), RULES, ids=[f"{r[0].__name__}-{r[2]}" for r in RULES])
def test_a_broken_rule_names_field_value_and_rule(kind: type, values: dict[str, Any], what: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    message = str(caught.value)
    assert message.startswith(f"{what}: ")
    assert rule in message
    assert "\n" not in message


def test_config_errors_are_what_callers_catch() -> None:
    assert issubclass(ConfigError, DiffaeError)
    assert issubclass(ConfigError, ValueError)


def test_without_encoder_its_settings_do_not_bind() -> None:
    network = NetworkConfig(image_size=8, channel_mult=(1, 2), z_sem_channels=0, encoder_channel_mult=(1, 0, 1, 1, 1))
    assert not network.has_encoder
    assert NetworkConfig().has_encoder


@pytest.mark.parametrize("name", presets())
def test_round_trip_through_json(name: str) -> None:
    for settings in presets()[name]:
        again = from_dict(type(settings), json.loads(json.dumps(asdict(settings))))
        assert again == settings  # tuples come back as tuples, nested settings as settings
        assert hash(again) == hash(settings)


def test_round_trip_keeps_what_is_not_default() -> None:
    network = NetworkConfig(16, 5, 6, (1, 3), 4, (8, 4), 2, 10, 0.25, 7, (2, 1), 3)
    model = ModelConfig(
        network, DiffusionConfig("cosine", 50, "v"), InputConfig((1, 2, 3, 4), (5, 6, 7), ((-1.0, 2.5),) * 5, "float32")
    )
    assert from_dict(ModelConfig, json.loads(json.dumps(asdict(model)))) == model
    sampling = Sampling(7, "trailing", "explicit", True, 0.1, 3)
    assert from_dict(Sampling, json.loads(json.dumps(asdict(sampling)))) == sampling


def test_absent_keys_take_their_defaults() -> None:
    assert from_dict(ModelConfig, {"network": {"image_size": 32}}) == ModelConfig(NetworkConfig(image_size=32))
    assert from_dict(ModelConfig, {"input": {"crop": "celeba"}}).input == InputConfig("celeba", (255, 255, 255))


@pytest.mark.parametrize(
    ("kind", "values", "owner"),
    [
        (ModelConfig, {"nonsense": 1}, "ModelConfig"),
        (ModelConfig, {"network": {"nonsense": 1}}, "NetworkConfig"),
        (ModelConfig, {"diffusion": {"nonsense": 1}}, "DiffusionConfig"),
        (ModelConfig, {"input": {"nonsense": 1}}, "InputConfig"),
        (TrainingConfig, {"images": 5, "nonsense": 1}, "TrainingConfig"),
        (Sampling, {"nonsense": 1}, "Sampling"),
    ],
)
def test_unknown_keys_raise(kind: type, values: dict[str, Any], owner: str) -> None:
    with pytest.raises(ConfigError, match=f"{owner} has no setting 'nonsense': known are "):
        from_dict(kind, values)


def test_from_dict_applies_the_rules() -> None:
    with pytest.raises(ConfigError, match="res_blocks is 0"):
        from_dict(ModelConfig, {"network": {"res_blocks": 0}})


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Sampling().steps = 5  # pyright: ignore[reportAttributeAccessIssue]


def test_official_sampling() -> None:
    official = Sampling.official(100)
    assert (official.steps, official.grid, official.inversion, official.clip_x0) == (100, "leading", "official", True)
    assert Sampling.official().steps == 20


def test_fast_sampling() -> None:
    assert Sampling.fast() == Sampling(10, "squares", solver="dpm++2m")


@pytest.mark.parametrize(("images", "batch", "steps"), [(100, 10, 10), (101, 10, 11), (1, 64, 1)])
def test_steps_of_training(images: int, batch: int, steps: int) -> None:
    assert TrainingConfig(images=images, batch_size=batch).steps == steps
