"""Frozen settings, and their way to and from JSON.

Every value is checked when the object is made; a `ConfigError` names the field, the value and the rule. A replaceable
part (decoder, encoder, first stage, auxiliary loss) is described by a frozen dataclass with a `build` method. In JSON
its `kind` says which: a short name for those of this package, the import path "module:Class" for others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from diffae.deprecation import NetworkConfig, upgrade_model, warn_renamed
from diffae.diffusion.settings import DiffusionConfig, Sampling
from diffae.errors import ConfigError, require, require_choice
from diffae.networks.first_stages.settings import DiffusersConfig, HaarConfig, SpaceToDepthConfig
from diffae.networks.foundation.settings import FoundationConfig
from diffae.networks.settings import (
    DecoderConfig,
    EncoderConfig,
    FirstStageConfig,
    Shape,
    UNetConfig,
    UNetEncoderConfig,
)

__all__ = [
    "DiffusersConfig",
    "DiffusionConfig",
    "FoundationConfig",
    "HaarConfig",
    "InputConfig",
    "ModelConfig",
    "PriorConfig",
    "Sampling",
    "SpaceToDepthConfig",
    "UNetConfig",
    "UNetEncoderConfig",
    "from_dict",
    "to_dict",
]

EncoderInput = Literal["pixels", "latents"]
PriorLoss = Literal["l1", "mse"]
Crop = tuple[int, int, int, int] | str  # (left, top, right, bottom) in pixels, or a name of NAMED_CROPS
Window = tuple[tuple[float, float], ...]  # (low, high) of each channel, in the units of the files
WindowRule = Literal["auto", "percentile"]  # how a window is found among the images of a training set
SampleType = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]

WHITE = (255, 255, 255)
# Of CelebA's aligned 178x218 images, the 128x128 square centred at x = 89, y = 121 (as D2C and the paper crop them).
NAMED_CROPS = {"celeba": (25, 57, 153, 185)}

PRIOR_STEPS = 100
"""Solver steps of the latent prior: its network is small, so they cost little beside one of the decoder's."""


@dataclass(frozen=True)
class InputConfig:
    """How image files and arrays are prepared before they are scaled to the model's size."""

    crop: Crop | None = None
    """What to cut out first: (left, top, right, bottom) in pixels of the upright image, or "celeba"."""
    background: tuple[int, int, int] = WHITE
    """RGB 0..255, seen through transparent pixels."""
    window: Window | None = None
    """(low, high) of each channel in the units of the files: the values that become -1 and 1; values outside are
    clipped. None scales uint8 and uint16 samples by the whole range of their type."""
    dtype: SampleType = "uint8"
    """Type of the training images' samples, in which decoded images are written."""

    def __post_init__(self) -> None:
        require_choice("dtype", self.dtype, SampleType)
        rule = "must be uint8 or uint16 without a window; state one"
        require(self.window is not None or self.dtype in ("uint8", "uint16"), "dtype", self.dtype, rule)
        for pair in self.window or ():
            rising = len(pair) == 2 and all(map(math.isfinite, pair)) and pair[0] < pair[1]
            require(rising, "window", self.window, "must be pairs of a low and a higher number, one for each channel")
        if isinstance(self.crop, str):
            require(self.crop in NAMED_CROPS, "crop", self.crop, "must be celeba or (left, top, right, bottom)")
        if (box := self.box) is not None:
            inside = len(box) == 4 and 0 <= box[0] < box[2] and 0 <= box[1] < box[3]
            require(inside, "crop", box, "must satisfy 0 <= left < right and 0 <= top < bottom")
        colour = len(self.background) == 3 and all(0 <= value <= 255 for value in self.background)
        require(colour, "background", self.background, "must be three values 0..255, for instance (255, 255, 255)")

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """The crop as numbers."""
        return NAMED_CROPS[self.crop] if isinstance(self.crop, str) else self.crop


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to rebuild a model, read its weights and give it images."""

    image_size: int = 64
    """Height and width of the images in pixels."""
    image_channels: int = 3
    """Channels of the images: 1 for grey, 3 for colour, or any number."""
    decoder: UNetConfig | DecoderConfig = field(default_factory=UNetConfig)
    """The network that is called at every step of the diffusion process."""
    encoder: UNetEncoderConfig | FoundationConfig | EncoderConfig | None = field(default_factory=UNetEncoderConfig)
    """The semantic encoder; None for the paper's DDIM baseline, which has no z_sem."""
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    """The forward process and what the decoder predicts."""
    first_stage: SpaceToDepthConfig | HaarConfig | DiffusersConfig | FirstStageConfig | None = None
    """Maps images to the latents that are diffused; None diffuses the pixels themselves, as in the paper."""
    input: InputConfig = field(default_factory=InputConfig)
    """How files are prepared."""
    encoder_input: EncoderInput = "pixels"
    """What the encoder sees: "pixels", or the "latents" of the first stage."""

    upgrade = staticmethod(upgrade_model)

    def __post_init__(self) -> None:
        for name in ("image_size", "image_channels"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        self._check_parts()
        rule = f"must have a low and a high value for each of {self.image_channels} channels"
        window = self.input.window
        require(window is None or len(window) == self.image_channels, "window", window, rule)

    def _check_parts(self) -> None:
        rule = "must be a dataclass of settings with a `build` method, as {} says"
        require(isinstance(self.decoder, DecoderConfig), "decoder", self.decoder, rule.format("DecoderConfig"))
        encoder, first_stage = self.encoder, self.first_stage
        is_encoder = encoder is None or isinstance(encoder, EncoderConfig)
        require(is_encoder, "encoder", encoder, rule.format("EncoderConfig"))
        is_first_stage = first_stage is None or isinstance(first_stage, FirstStageConfig)
        require(is_first_stage, "first_stage", first_stage, rule.format("FirstStageConfig"))
        _check(first_stage, self.image_shape)
        require_choice("encoder_input", self.encoder_input, EncoderInput)
        sees_pixels = self.encoder_input == "pixels" or not isinstance(encoder, FoundationConfig)
        require(sees_pixels, "encoder_input", self.encoder_input, "must be pixels for a pretrained network")
        _check(encoder, self.encoder_shape)
        _check(self.decoder, self.latent_shape)

    @property
    def image_shape(self) -> Shape:
        """(c, h, w) of the images."""
        return self.image_channels, self.image_size, self.image_size

    @property
    def latent_shape(self) -> Shape:
        """(c, h, w) of what is diffused: the images, or the latents of the first stage."""
        return self.first_stage.latent_shape(self.image_shape) if self.first_stage else self.image_shape

    @property
    def encoder_shape(self) -> Shape:
        """(c, h, w) of what the encoder sees."""
        return self.latent_shape if self.encoder_input == "latents" else self.image_shape

    @property
    def has_encoder(self) -> bool:
        """Whether images are conditioned on z_sem (False: the paper's DDIM baseline)."""
        return self.encoder is not None

    @property
    def z_sem_channels(self) -> int:
        """d, the size of z_sem; 0 without an encoder."""
        return self.encoder.z_sem_channels if self.encoder is not None else 0

    @property
    def network(self) -> NetworkConfig:
        """The networks as version 0.1 described them."""
        warn_renamed("ModelConfig.network", "ModelConfig.decoder and ModelConfig.encoder")
        return NetworkConfig.of(self)


def _check(part: Any, shape: Shape) -> None:
    if hasattr(part, "check"):
        part.check(shape)


@dataclass(frozen=True)
class PriorConfig:
    """The latent prior: its network, its forward process on normalised z_sem, its loss (paper Section 4, Table 6)."""

    layers: int = 10
    """Layers of the MLP, the last included; each sees the input again."""
    hidden_channels: int = 2048
    """Width of the layers."""
    loss: PriorLoss = "l1"
    """Mean absolute ("l1", as in the paper) or mean squared error of the network's prediction."""
    diffusion: DiffusionConfig = field(default_factory=lambda: DiffusionConfig("constant"))
    """Schedule, levels and what the network predicts."""

    def __post_init__(self) -> None:
        require(self.layers >= 2, "layers", self.layers, "must be at least 2, the first and the last")
        require(self.hidden_channels >= 1, "hidden_channels", self.hidden_channels, "must be at least 1")
        require_choice("loss", self.loss, PriorLoss)


Settings = TypeVar("Settings")


def to_dict(settings: Any) -> dict[str, Any]:
    """Plain values of a settings dataclass, for JSON; parts carry their `kind`.

    Raises:
        ConfigError: a part whose class cannot be imported by its name.
    """
    kind = _kind(type(settings))
    values = {f.name: _plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    return {"kind": kind, **values} if kind else values


def from_dict(cls: type[Settings], values: Mapping[str, Any], *, trust_code: bool = False) -> Settings:
    """Build a settings dataclass from plain values, as in config.json.

    Args:
        cls: the dataclass.
        values: its fields; those that are absent take their defaults.
        trust_code: whether parts outside this package, which `values` names by import path, may be imported.

    Raises:
        ConfigError: a key that `cls` does not have, a value of another type or forbidden by a rule, an unknown `kind`,
            or a part that cannot or may not be imported.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{cls.__name__} is {values!r:.60}: must be an object of named settings")
    values = getattr(cls, "upgrade", dict)(values)  # settings that an earlier version wrote
    known = {f.name for f in dataclasses.fields(cls) if f.init}  # pyright: ignore[reportArgumentType]
    if unknown := sorted(map(str, set(values) - known)):
        raise ConfigError(f"{cls.__name__} has no setting {unknown[0]!r}: known are {', '.join(sorted(known))}")
    hints = get_type_hints(cls)
    read = {name: _read(name, hints[name], value, trust_code) for name, value in values.items()}
    try:
        return cls(**read)
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _kind(cls: type) -> str | None:
    """What names a part's class in JSON; None for settings that are no part."""
    module = cls.__module__
    if module.partition(".")[0] == "diffae":
        return getattr(cls, "kind", None)  # of this package alone: a subclass elsewhere inherits it
    if module == "__main__" or "." in cls.__qualname__:
        rule = "its class must stand at the top level of a module that can be imported, to be found again"
        raise ConfigError(f"kind is {module}:{cls.__qualname__}: {rule}")
    return f"{module}:{cls.__qualname__}"


def _read(name: str, hint: Any, value: Any, trust_code: bool) -> Any:
    if isinstance(value, list) and get_origin(hint) is tuple and any(map(_is_settings, get_args(get_args(hint)[0]))):
        return tuple(_read(name, get_args(hint)[0], item, trust_code) for item in value)
    if isinstance(value, Mapping):
        cls, fields = _class_of(name, get_args(hint) or (hint,), dict(value), trust_code)
        return from_dict(cls, fields, trust_code=trust_code)
    value = _frozen(value)
    try:
        return check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        shown = str(hint).replace("typing.", "") if get_args(hint) else getattr(hint, "__name__", hint)
        raise ConfigError(f"{name} is {value!r:.60}: must be of type {shown}") from None


def _is_settings(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint)


def _class_of(name: str, options: tuple[Any, ...], fields: dict[str, Any], trust_code: bool) -> tuple[type, dict]:
    """The settings class that an object in JSON is of, and its fields."""
    classes = [option for option in options if _is_settings(option)]
    kind = fields.pop("kind", None)
    if isinstance(kind, str) and ":" in kind:
        return _imported(name, kind, trust_code), fields
    for cls in classes:
        if getattr(cls, "kind", None) == kind:
            return cls, fields
    known = ", ".join(repr(cls.kind) for cls in classes if hasattr(cls, "kind")) or "none of this package"
    rule = f"known are {known}, or the import path 'module:Class' of a part elsewhere"
    raise ConfigError(f"{name} has kind {kind!r}: {rule}")


def _imported(name: str, path: str, trust_code: bool) -> type:
    if not trust_code:
        rule = "is code outside diffae; if you trust it, read with trust_code=True"
        raise ConfigError(f"{name} is {path!r}: {rule}")
    module, _, attribute = path.partition(":")
    try:
        cls = getattr(import_module(module), attribute)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"{name} is {path!r}: cannot be imported ({reason}); put its module on PYTHONPATH") from error
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ConfigError(f"{name} is {path!r}: must be a dataclass of settings")
    return cls


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _accepting_network(init: Any) -> Any:
    """`ModelConfig(NetworkConfig(...), diffusion, input)`, the signature of version 0.1, still works."""

    def translated(self: ModelConfig, *args: Any, **kwargs: Any) -> None:
        if args and isinstance(args[0], NetworkConfig):
            kwargs |= dict(zip(("network", "diffusion", "input"), args, strict=False))
            args = ()
        if isinstance(network := kwargs.pop("network", None), NetworkConfig):
            warn_renamed("ModelConfig(network=...)", "ModelConfig(decoder=..., encoder=...)")
            parts = from_dict(ModelConfig, {"network": dataclasses.asdict(network)})
            names = ("image_size", "image_channels", "decoder", "encoder")
            kwargs |= {name: getattr(parts, name) for name in names}
        init(self, *args, **kwargs)

    return translated


ModelConfig.__init__ = _accepting_network(ModelConfig.__init__)
