"""The version, old names that still work for one version, and settings files written by version 0.1."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

__version__ = "0.2.0"

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that `old` is now called `new`; by default at the line that called the function that warns."""
    message = f"{old} is now {new}; the old name will be removed in 0.3"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)


def renamed(**names: str) -> Callable[[Decorated], Decorated]:
    """Let a function or a class accept keyword arguments by their old names, given as old="new"."""

    def decorate(target: Decorated) -> Decorated:
        call: Callable[..., Any] = target.__init__ if isinstance(target, type) else target

        @functools.wraps(call)
        def translated(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                if names[old] in kwargs:
                    raise TypeError(f"{old!r} and {names[old]!r} are the same argument: give the second alone")
                warn_renamed(f"argument {old!r}", repr(names[old]))
                kwargs[names[old]] = kwargs.pop(old)
            return call(*args, **kwargs)

        if isinstance(target, type):
            target.__init__ = translated
            return target  # pyright: ignore[reportReturnType]
        return translated  # pyright: ignore[reportReturnType]

    return decorate


def renamed_value(name: str, value: Any, names: Mapping[str, str]) -> Any:
    """The value of a setting under its present name."""
    if isinstance(value, str) and value in names:
        warn_renamed(f"{name}={value!r}", repr(names[value]), stacklevel=6)  # beyond __post_init__ and both __init__
        return names[value]
    return value


@dataclass(frozen=True)
class NetworkConfig:
    """Both networks in one, as version 0.1 described them: see `UNetConfig` and `UNetEncoderConfig`."""

    image_size: int = 64
    image_channels: int = 3
    model_channels: int = 64
    channel_mult: tuple[int, ...] = (1, 2, 4, 8)
    res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (16,)
    heads: int = 1
    time_channels: int = 512
    dropout: float = 0.1
    z_sem_channels: int = 512
    encoder_channel_mult: tuple[int, ...] = (1, 2, 4, 8, 8)
    encoder_res_blocks: int = 2
    upsampling: str = "first"
    encoder_pooling: str = "average"
    z_map_channels: int = 0

    @property
    def has_encoder(self) -> bool:
        """Whether images are conditioned on z_sem."""
        return self.z_sem_channels > 0

    @classmethod
    def of(cls, config: Any) -> NetworkConfig:
        """What version 0.1 called the networks of a `ModelConfig`; `AttributeError` where it had no such networks."""
        decoder, encoder = config.decoder, config.encoder
        names = ("model_channels", "channel_mult", "res_blocks", "attention_resolutions", "heads", "time_channels")
        values = {name: getattr(decoder, name) for name in (*names, "dropout", "upsampling", "z_map_channels")}
        if encoder is None:
            values["z_sem_channels"] = 0
        else:
            values |= {old: getattr(encoder, new) for new, old in _ENCODER.items()}
            for name in _SHARED:
                if getattr(encoder, name) != values[name]:
                    raise AttributeError(f"decoder and encoder differ in {name}: in version 0.1 they agreed")
        return cls(config.image_size, config.image_channels, **values)


_SHARED = ("model_channels", "attention_resolutions", "heads")
_ENCODER = {
    "z_sem_channels": "z_sem_channels",
    "channel_mult": "encoder_channel_mult",
    "res_blocks": "encoder_res_blocks",
    "pooling": "encoder_pooling",
}
"""Settings of `UNetEncoderConfig`, and what version 0.1 called them."""


def upgrade_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The model's settings in config.json as this version writes them; those of version 0.1 had one `network`."""
    settings = dict(settings)
    if not isinstance(settings.get("network"), Mapping):
        return settings
    old = dict(settings.pop("network"))
    shared = {name: old.pop(name) for name in _SHARED if name in old}
    encoder = {new: old.pop(name) for new, name in _ENCODER.items() if name in old}
    image = {name: old.pop(name) for name in ("image_size", "image_channels") if name in old}
    settings["decoder"] = {"kind": "unet", **shared, **old}
    has_encoder = encoder.get("z_sem_channels", 1) != 0
    settings["encoder"] = {"kind": "unet_encoder", **shared, **encoder} if has_encoder else None
    if not has_encoder:
        settings["decoder"].pop("z_map_channels", None)  # it had no effect
    return image | settings


def upgrade_training(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The training settings in config.json as this version writes them; version 0.1 had a number for each loss."""
    settings = dict(settings)
    kinds = {"contrast": "contrastive", "orientations": "hog", "teaching": "distillation"}
    if kinds.keys() & settings.keys():
        weights = {kind: settings.pop(name, 0.0) for name, kind in kinds.items()}
        losses = [{"kind": kind, "weight": weight} for kind, weight in weights.items() if weight]
        settings["auxiliary_losses"] = losses
    return settings


def upgrade_sampling(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling settings in a codes file as this version writes them."""
    settings = dict(settings)
    if "grid" in settings:
        settings["spacing"] = settings.pop("grid")
    if settings.get("inversion") == "pair":
        settings["inversion"] = "bdia"
    return settings
