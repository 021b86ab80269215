"""Settings: the rules and their messages, and the conversion to and from JSON, parts outside the package included."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
from custom_parts import (
    HalvesConfig,
    MeanConfig,
    Outer,
    SizeLossConfig,
    ThinConfig,
    WiderUNetConfig,
)

from diffae.config import (
    DiffusionConfig,
    InputConfig,
    ModelConfig,
    PriorConfig,
    Sampling,
    UNetConfig,
    UNetEncoderConfig,
    from_dict,
    to_dict,
)
from diffae.errors import ConfigError, DiffaeError
from diffae.training.settings import ContrastiveConfig, DistillationConfig, HOGConfig, TrainingConfig


def model_of(**values: Any) -> ModelConfig:
    """Settings by their names of version 0.1, as in config.json."""
    return from_dict(ModelConfig, {"network": values})


RULES: list[tuple[type, dict[str, Any], str, str]] = [
    (ModelConfig, {"image_size": 0}, "image_size is 0", "at least 1"),
    (ModelConfig, {"image_size": 72}, "image_size is 72", "divisible by 16"),  # the encoder halves it 4 times
    (ModelConfig, {"image_size": 4, "encoder": None}, "image_size is 4", "divisible by 8"),
    (
        ModelConfig,
        {"image_size": 24, "decoder": UNetConfig(patch_size=2), "encoder": None},
        "image_size is 24",
        "by 16",
    ),
    (UNetConfig, {"patch_size": 0}, "patch_size is 0", "at least 1"),
    (UNetEncoderConfig, {"patch_size": 0}, "patch_size is 0", "at least 1"),
    (ModelConfig, {"image_channels": 0}, "image_channels is 0", "at least 1"),
    (ModelConfig, {"decoder": 5}, "decoder is 5", "with a `build` method, as DecoderConfig says"),
    (ModelConfig, {"encoder": ThinConfig()}, "encoder is ThinConfig(extra=0)", "as EncoderConfig says"),
    (ModelConfig, {"first_stage": ThinConfig()}, "first_stage is ThinConfig(extra=0)", "as FirstStageConfig says"),
    (UNetConfig, {"model_channels": 0}, "model_channels is 0", "at least 1"),
    (UNetConfig, {"model_channels": 33}, "model_channels is 33", "even"),
    (UNetConfig, {"channel_mult": ()}, "channel_mult is ()", "at least one level"),
    (UNetConfig, {"channel_mult": (1, 0)}, "channel_mult is (1, 0)", "at least 1"),
    (UNetConfig, {"res_blocks": 0}, "res_blocks is 0", "at least 1"),
    (UNetConfig, {"heads": 0}, "heads is 0", "at least 1"),
    (UNetConfig, {"heads": 3}, "heads is 3", "divide every level's width, here 64"),
    (UNetConfig, {"time_channels": 0}, "time_channels is 0", "at least 1"),
    (UNetConfig, {"upsampling": "never"}, "upsampling is 'never'", "first, last"),
    (UNetConfig, {"z_map_channels": -1}, "z_map_channels is -1", "0 (none) or more"),
    (UNetConfig, {"dropout": 1.0}, "dropout is 1.0", "[0, 1)"),
    (UNetConfig, {"dropout": -0.1}, "dropout is -0.1", "[0, 1)"),
    (UNetEncoderConfig, {"model_channels": 0}, "model_channels is 0", "at least 1"),
    (UNetEncoderConfig, {"channel_mult": ()}, "channel_mult is ()", "at least one level"),
    (UNetEncoderConfig, {"channel_mult": (1, -2)}, "channel_mult is (1, -2)", "at least 1"),
    (UNetEncoderConfig, {"res_blocks": 0}, "res_blocks is 0", "at least 1"),
    (UNetEncoderConfig, {"heads": 0}, "heads is 0", "at least 1"),
    (UNetEncoderConfig, {"heads": 3}, "heads is 3", "divide every level's width, here 64"),
    (UNetEncoderConfig, {"z_sem_channels": -1}, "z_sem_channels is -1", "at least 1"),
    (UNetEncoderConfig, {"z_sem_channels": 0}, "z_sem_channels is 0", "at least 1"),
    (UNetEncoderConfig, {"pooling": "max"}, "pooling is 'max'", "average, flatten"),
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
    (ContrastiveConfig, {"weight": -0.1}, "weight is -0.1", "above 0"),
    (ContrastiveConfig, {"weight": float("nan")}, "weight is nan", "above 0"),
    (HOGConfig, {"weight": -0.1}, "weight is -0.1", "above 0"),
    (DistillationConfig, {"weight": 0.0}, "weight is 0.0", "above 0"),
    (TrainingConfig, {"auxiliary_losses": (0.1,)}, "auxiliary_losses is 0.1", "with `weight` and `build`"),
    (TrainingConfig, {"auxiliary_losses": HOGConfig()}, "auxiliary_losses is HOGConfig(weight=0.3)", "tuple"),
    (TrainingConfig, {"weight_decay": -1}, "weight_decay is -1", "0 or more"),
    (PriorConfig, {"layers": 1}, "layers is 1", "at least 2"),
    (PriorConfig, {"hidden_channels": 0}, "hidden_channels is 0", "at least 1"),
    (PriorConfig, {"loss": "l2"}, "loss is 'l2'", "l1, mse"),
    (TrainingConfig, {"level_sampling": "high"}, "level_sampling is 'high'", "uniform, middle"),
    (TrainingConfig, {"optimizer": "sgd"}, "optimizer is 'sgd'", "adam, muon"),
    (TrainingConfig, {"precision": "half"}, "precision is 'half'", "auto, float32, bfloat16"),
    (Sampling, {"steps": 0}, "steps is 0", "at least 1"),
    (Sampling, {"spacing": "middle"}, "spacing is 'middle'", "leading, trailing"),
    (Sampling, {"inversion": "magic"}, "inversion is 'magic'", "exact, explicit, official"),
    (Sampling, {"tolerance": 0.0}, "tolerance is 0.0", "positive"),
    (Sampling, {"tolerance": float("nan")}, "tolerance is nan", "positive"),
    (Sampling, {"max_iterations": 0}, "max_iterations is 0", "at least 1"),
    (Sampling, {"tolerance": float("inf")}, "tolerance is inf", "positive"),
    (Sampling, {"clip_x0": True}, "inversion is 'exact'", "clip_x0=False"),
    (Sampling, {"clip_x0": True, "inversion": "bdia"}, "inversion is 'bdia'", "clip_x0=False"),
    (Sampling, {"solver": "euler"}, "solver is 'euler'", "ddim, dpm++2m"),
    (Sampling, {"precision": "half"}, "precision is 'half'", "float32, float64, bfloat16"),
]


@pytest.mark.parametrize(("kind", "values", "what", "rule"), RULES, ids=[f"{r[0].__name__}-{r[2]}" for r in RULES])
def test_the_message_names_field_value_and_rule(kind: type, values: dict[str, Any], what: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    message = str(caught.value)
    assert message.startswith(f"{what}: ")
    assert rule in message
    assert "\n" not in message


def test_config_errors_are_what_callers_catch() -> None:
    assert issubclass(ConfigError, DiffaeError)
    assert issubclass(ConfigError, ValueError)


# ---------------------------------------------------------------------- to and from JSON


def through_json(settings: Any, *, trust_code: bool = False) -> Any:
    return from_dict(type(settings), json.loads(json.dumps(to_dict(settings))), trust_code=trust_code)


def test_round_trip_keeps_all_values() -> None:
    model = ModelConfig(
        16,
        5,
        UNetConfig(6, (1, 3), 4, (8, 4), 2, 10, 0.25, "last", 3, 2, 4),
        UNetEncoderConfig(7, 12, (2, 1), 3, (2,), 4, "flatten", 2, 4),
        DiffusionConfig("cosine", 50, "v"),
        None,
        InputConfig((1, 2, 3, 4), (5, 6, 7), ((-1.0, 2.5),) * 5, "float32"),
    )
    assert through_json(model) == model
    for part in (model.decoder, model.encoder, model.input, model.diffusion):
        kind: Any = type(part)
        defaults = kind()
        for field in dataclasses.fields(kind):
            assert getattr(part, field.name) != getattr(defaults, field.name), field.name
    sampling = Sampling(7, "trailing", "explicit", True, 0.1, 3, "dpm++2m", "float64")
    assert through_json(sampling) == sampling
    training = TrainingConfig(auxiliary_losses=(DistillationConfig(0.7), ContrastiveConfig(0.2), HOGConfig(0.1)))
    assert through_json(training) == training
    prior = PriorConfig(3, 8, "mse", DiffusionConfig("linear", 9))
    assert through_json(prior) == prior


def test_parts_of_this_package_are_named_by_their_kind() -> None:
    plain = to_dict(ModelConfig())
    assert (plain["decoder"]["kind"], plain["encoder"]["kind"]) == ("unet", "unet_encoder")
    assert "kind" not in plain
    assert "kind" not in plain["diffusion"]
    assert to_dict(ModelConfig(encoder=None))["encoder"] is None
    losses = to_dict(TrainingConfig(auxiliary_losses=(HOGConfig(0.1),)))["auxiliary_losses"]
    assert losses == [{"kind": "hog", "weight": 0.1}]


def test_parts_of_another_package_are_named_by_their_import_path() -> None:
    model = ModelConfig(16, decoder=ThinConfig(), encoder=MeanConfig(3), first_stage=HalvesConfig())
    assert to_dict(model)["decoder"] == {"kind": "custom_parts:ThinConfig", "extra": 0}
    assert model.latent_shape == (12, 8, 8)
    assert model.z_sem_channels == 3
    assert through_json(model, trust_code=True) == model
    with pytest.raises(ConfigError, match=r"decoder is 'custom_parts:ThinConfig': is code outside .* trust_code=True"):
        through_json(model)
    training = TrainingConfig(auxiliary_losses=(HOGConfig(0.1), SizeLossConfig(0.5)))
    assert through_json(training, trust_code=True) == training
    with pytest.raises(ConfigError, match="auxiliary_losses is 'custom_parts:SizeLossConfig': is code outside"):
        through_json(training)


def test_a_subclass_of_a_part_is_not_taken_for_the_part() -> None:
    model = ModelConfig(decoder=WiderUNetConfig(32))
    assert to_dict(model)["decoder"]["kind"] == "custom_parts:WiderUNetConfig"
    assert isinstance(through_json(model, trust_code=True).decoder, WiderUNetConfig)


def test_a_part_that_could_not_be_imported_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Local(ThinConfig):
        pass

    rule = "its class must stand at the top level of a module that can be imported"
    for part in (Local(), Outer.Inner()):
        with pytest.raises(ConfigError, match=rf"kind is (tests\.test_config|custom_parts):.*: {rule}"):
            to_dict(ModelConfig(decoder=part))
    monkeypatch.setattr(ThinConfig, "__module__", "__main__")
    with pytest.raises(ConfigError, match=f"kind is __main__:ThinConfig: {rule}"):
        to_dict(ModelConfig(decoder=ThinConfig()))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("dit", "decoder has kind 'dit': known are 'unet', or the import path 'module:Class' of a part elsewhere"),
        ("unet_encoder", "decoder has kind 'unet_encoder': known are 'unet'"),
        (None, "decoder has kind None: known are 'unet'"),
        (["unet"], "decoder has kind ['unet']: known are 'unet'"),
        ("no_such_module:X", "decoder is 'no_such_module:X': cannot be imported (No module named 'no_such_module')"),
        ("custom_parts:X", "decoder is 'custom_parts:X': cannot be imported (module 'custom_parts' has no attribute"),
        (":X", "decoder is ':X': cannot be imported (Empty module name)"),
        ("custom_parts:", "decoder is 'custom_parts:': cannot be imported ("),
        ("custom_parts:NOT_A_CLASS", "decoder is 'custom_parts:NOT_A_CLASS': must be a dataclass of settings"),
        ("custom_parts:Thin", "decoder is 'custom_parts:Thin': must be a dataclass of settings"),
    ],
)
def test_kinds_that_cannot_be_read(kind: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(ModelConfig, {"decoder": {"kind": kind}}, trust_code=True)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (ModelConfig, 5, "ModelConfig is 5: must be an object of named settings"),
        (ModelConfig, [1], "ModelConfig is [1]: must be an object"),
        (ModelConfig, {"image_size": 32.0}, "image_size is 32.0: must be of type int"),
        (ModelConfig, {"image_size": "32"}, "image_size is '32': must be of type int"),
        (ModelConfig, {"image_size": None}, "image_size is None: must be of type int"),
        (ModelConfig, {"image_size": [32]}, "image_size is (32,): must be of type int"),
        (ModelConfig, {"image_size": {"a": 1}}, "image_size has kind None"),
        (ModelConfig, {"decoder": "unet"}, "decoder is 'unet': must be of type"),
        (ModelConfig, {"decoder": None}, "decoder is None: must be of type"),
        (ModelConfig, {"decoder": [1]}, "decoder is (1,): must be of type"),
        (ModelConfig, {"decoder": {"kind": "unet", "channel_mult": 3}}, "channel_mult is 3: must be of type tuple"),
        (ModelConfig, {"decoder": {"kind": "unet", "channel_mult": [1, "2"]}}, "channel_mult is (1, '2')"),
        (ModelConfig, {"decoder": {"kind": "unet", "channel_mult": [1, 2.0]}}, "channel_mult is (1, 2.0)"),
        (ModelConfig, {"decoder": {"kind": "unet", "dropout": "none"}}, "dropout is 'none': must be of type float"),
        (ModelConfig, {"diffusion": 5}, "diffusion is 5: must be of type DiffusionConfig"),
        (ModelConfig, {"diffusion": {"levels": "many"}}, "levels is 'many': must be of type int"),
        (ModelConfig, {"network": 5}, "ModelConfig has no setting 'network'"),
        (ModelConfig, {"network": {"heads": "two"}}, "heads is 'two': must be of type int"),
        (ModelConfig, {"network": {"z_sem_channels": "0"}}, "z_sem_channels is '0': must be of type int"),
        (TrainingConfig, {"flip": "yes"}, "flip is 'yes': must be of type bool"),
        (TrainingConfig, {"learning_rate": [1e-3]}, "learning_rate is (0.001,): must be of type float"),
        (TrainingConfig, {"auxiliary_losses": 0.1}, "auxiliary_losses is 0.1: must be of type tuple"),
        (TrainingConfig, {"auxiliary_losses": "hog"}, "auxiliary_losses is 'hog': must be of type tuple"),
        (TrainingConfig, {"auxiliary_losses": [0.1]}, "auxiliary_losses is 0.1: must be of type"),
        (TrainingConfig, {"auxiliary_losses": [["hog"]]}, "auxiliary_losses is ('hog',): must be of type"),
        (TrainingConfig, {"auxiliary_losses": {"kind": "hog"}}, "auxiliary_losses has kind 'hog'"),
        (TrainingConfig, {"auxiliary_losses": [{"kind": "gan"}]}, "auxiliary_losses has kind 'gan': known are 'contr"),
        (TrainingConfig, {"auxiliary_losses": [{"kind": "hog", "weight": "0.3"}]}, "weight is '0.3': must be of"),
        (TrainingConfig, {"contrast": "much"}, "weight is 'much': must be of type float"),
        (Sampling, {"steps": [1, 2]}, "steps is (1, 2): must be of type int"),
        (Sampling, {"solver": 5}, "solver is 5: choose one of ddim, dpm++2m"),
        (Sampling, {"grid": 5}, "spacing is 5"),
    ],
)
def test_values_of_a_wrong_type(cls: type, values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(cls, values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [10, 200, 450, 900])
def test_values_that_are_nested_deeply(depth: int) -> None:
    nested: Any = 1
    for _ in range(depth):
        nested = [nested]
    for values in ({"image_size": nested}, {"decoder": {"kind": "unet", "channel_mult": nested}}):
        with pytest.raises(ConfigError, match=r"is \(+.*: must be of type"):
            from_dict(ModelConfig, values)


def test_integers_are_accepted_as_floats() -> None:
    assert from_dict(TrainingConfig, {"learning_rate": 1}).learning_rate == 1


def test_without_encoder_its_settings_are_not_checked() -> None:
    config = model_of(image_size=8, channel_mult=[1, 2], z_sem_channels=0, encoder_channel_mult=[1, 0, 1, 1, 1])
    assert not config.has_encoder
    assert config.z_sem_channels == 0
    assert ModelConfig().has_encoder


def test_absent_keys_take_their_defaults() -> None:
    assert from_dict(ModelConfig, {"image_size": 32}) == model_of(image_size=32) == ModelConfig(image_size=32)
    assert from_dict(ModelConfig, {"encoder": None}) == ModelConfig(encoder=None) == model_of(z_sem_channels=0)
    assert from_dict(ModelConfig, {"input": {"crop": "celeba"}}).input == InputConfig("celeba", (255, 255, 255))


@pytest.mark.parametrize(
    ("kind", "values", "owner"),
    [
        (ModelConfig, {"nonsense": 1}, "ModelConfig"),
        (ModelConfig, {"network": {"nonsense": 1}}, "UNetConfig"),
        (ModelConfig, {"decoder": {"kind": "unet", "nonsense": 1}}, "UNetConfig"),
        (ModelConfig, {"encoder": {"kind": "unet_encoder", "nonsense": 1}}, "UNetEncoderConfig"),
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
    assert (official.steps, official.spacing, official.inversion, official.clip_x0) == (
        100,
        "leading",
        "official",
        True,
    )
    assert Sampling.official().steps == 20


def test_fast_sampling() -> None:
    assert Sampling.fast() == Sampling(10, "squares", solver="dpm++2m")


@pytest.mark.parametrize(("images", "batch", "steps"), [(100, 10, 10), (101, 10, 11), (1, 64, 1)])
def test_steps_of_training(images: int, batch: int, steps: int) -> None:
    assert TrainingConfig(images=images, batch_size=batch).steps == steps


def test_with_loss_replaces_one_loss_and_keeps_the_order() -> None:
    training = TrainingConfig(auxiliary_losses=(HOGConfig(0.3), SizeLossConfig()))
    more = training.with_loss(DistillationConfig, 0.2).with_loss(ContrastiveConfig, 0.1)
    expected = (ContrastiveConfig(0.1), HOGConfig(0.3), DistillationConfig(0.2), SizeLossConfig())
    assert more.auxiliary_losses == expected
    assert more.distils
    less = more.with_loss(HOGConfig, 0.5).with_loss(DistillationConfig, 0)
    assert less.auxiliary_losses == (ContrastiveConfig(0.1), HOGConfig(0.5), SizeLossConfig())
    assert not less.distils
