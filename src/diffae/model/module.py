"""The networks of a diffusion autoencoder and its diffusion process, as one module: what is trained and averaged.

Shapes: b images of c channels and h x w pixels or latents, d = z_sem's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae import checkpoint
from diffae.config import ModelConfig, UNetConfig, UNetEncoderConfig
from diffae.deprecation import warn_renamed
from diffae.diffusion import solvers
from diffae.errors import ConfigError, DataError

Module = TypeVar("Module", bound="DiffusionModule")


def refuse_misfit(config: ModelConfig, weights: Mapping[str, Tensor], source: Path) -> None:
    """Raise `CheckpointError` unless weights are those of the U-Nets that settings declare; takes no memory.

    Other parts need not work without memory.
    """
    builds: dict[str, Callable[[], nn.Module]] = {}
    if isinstance(config.decoder, UNetConfig):
        builds["decoder"] = lambda: config.decoder.build(config.latent_shape, config.z_sem_channels)
    if isinstance(encoder := config.encoder, UNetEncoderConfig):
        builds["encoder"] = lambda: encoder.build(config.encoder_shape)
    present = checkpoint.present_names(weights)
    found = {name: tensor for name, tensor in present.items() if name.partition(".")[0] in builds}
    checkpoint.refuse_misfit(lambda: nn.ModuleDict({name: build() for name, build in builds.items()}), found, source)


class FirstStage(Protocol):
    """A module between images and the latents that are diffused."""

    def encode(self, images: Tensor) -> Tensor:
        """Latents (b, c, h, w) of images (b, k, H, W) in [-1, 1]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents."""
        ...


class DiffusionModule(nn.Module):
    """Decoder, encoder, diffusion process and first stage.

    Args:
        config: settings of all parts.
        decoder, encoder, first_stage: modules to use in place of those that `config` would build, called as
            `DecoderConfig`, `EncoderConfig` and `FirstStageConfig` say.

    Attributes:
        decoder: predicts eps or v: (b, c, h, w), time index (b,), z_sem (b, d) or None -> (b, c, h, w).
        encoder: images -> z_sem, (b, c, h, w) -> (b, d); None for the DDIM baseline.
        process: the `DiffusionProcess`.
        first_stage: images <-> latents; None where pixels are diffused.

    A part with a true attribute `frozen` is not trained, averaged or saved: it is built again from its settings.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        decoder: nn.Module | None = None,
        encoder: nn.Module | None = None,
        first_stage: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.process = config.diffusion.build()
        self.decoder = decoder or config.decoder.build(config.latent_shape, config.z_sem_channels)
        self.encoder = encoder or (config.encoder.build(config.encoder_shape) if config.encoder else None)
        self.first_stage = first_stage or (config.first_stage.build(config.image_shape) if config.first_stage else None)
        for part in self.modules():
            if getattr(part, "frozen", False):
                part.requires_grad_(False)
        self.eval()

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        time: Int[Tensor, " b"],
        seen: Float[Tensor, "b k H W"],
        features: Float[Tensor, "b f"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """The decoder's output at x_t and time index (b,), given what the encoder sees: one training pass."""
        return self.call_decoder(x_t, time, None if self.encoder is None else self.call_encoder(seen, features))

    def seen_of(
        self, images: Float[Tensor, "b k H W"], x_0: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b k2 H2 W2"]:
        """What the encoder sees of images in [-1, 1]: the images, or their latents (x_0, if known already)."""
        if self.config.encoder_input == "pixels":
            return images
        return self.to_latents(images) if x_0 is None else x_0

    def call_encoder(
        self, seen: Float[Tensor, "b c h w"], features: Float[Tensor, "b f"] | None = None
    ) -> Float[Tensor, "b d"]:
        """z_sem of what the encoder sees (`seen_of`): images in [-1, 1], or latents.

        Args:
            seen: these.
            features: for an encoder with a pretrained network, its features of the images, if they are known.

        Raises:
            ConfigError: the model has no encoder, or its output has the wrong shape.
        """
        if self.encoder is None:
            raise ConfigError("encoder is None: this model has no encoder; train one without --no-encoder")
        z_sem = self.encoder(seen) if features is None else self.encoder(seen, features)
        _require_shape("encoder", z_sem, (len(seen), self.config.z_sem_channels))
        return z_sem

    def call_decoder(
        self, x_t: Float[Tensor, "b c h w"], time: Int[Tensor, " b"], z_sem: Float[Tensor, "b d"] | None
    ) -> Float[Tensor, "b c h w"]:
        """The decoder's output, eps or v.

        Raises:
            ConfigError: it has another shape than x_t.
        """
        output = self.decoder(x_t, time, z_sem)
        _require_shape("decoder", output, tuple(x_t.shape))
        return output

    def to_latents(self, images: Float[Tensor, "b k H W"]) -> Float[Tensor, "b c h w"]:
        """x_0 of images in [-1, 1]: their latents, or without a first stage the images themselves."""
        return images if self.first_stage is None else cast(FirstStage, self.first_stage).encode(images)

    def from_latents(self, x_0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k H W"]:
        """Images of x_0, the inverse of `to_latents`."""
        return x_0 if self.first_stage is None else cast(FirstStage, self.first_stage).decode(x_0)

    def to(self: Module, *args: Any, **kwargs: Any) -> Module:  # beartype cannot check `Self` in a method alone
        """As `nn.Module.to`; the memory layout is channels-last unless stated, in which inference is faster."""
        kwargs.setdefault("memory_format", torch.channels_last)
        return super().to(*args, **kwargs)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.decoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return next(self.decoder.parameters()).dtype

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, size, size) of the images this model was made for."""
        return self.config.image_shape

    @property
    def alpha_bar(self) -> np.ndarray:
        """(T + 1,) float64, the signal level of each noise level; `alpha_bar[0] = 1`."""
        return self.process.alpha_bar

    @property
    def networks(self) -> nn.Module:
        """The model itself; version 0.1 kept its networks in a module of their own."""
        warn_renamed("DiffusionAutoencoder.networks", "the model itself, an nn.Module")
        return self

    @property
    def unet(self) -> nn.Module:
        """The decoder, under its name of version 0.1."""
        warn_renamed("networks.unet", "DiffusionAutoencoder.decoder")
        return self.decoder

    def predict_noise(
        self, x_t: Float[Tensor, "b c h w"], t: int | Int[Tensor, " b"], z_sem: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """eps_hat(x_t, t, z_sem): the noise in x_t at level t, 1..T (a number for the whole batch, or (b,)).

        Computed in the type of the networks' weights, returned in that of x_t.

        Raises:
            DataError: z_sem for a model without an encoder, or none for one with.
            ConfigError: a number t outside 1..T (tensors are not checked: that would wait for the device).
        """
        if (z_sem is None) == self.config.has_encoder:
            d = self.config.z_sem_channels
            raise DataError(f"z_sem is {'absent' if d else 'given'}: this model's network takes z_sem of size {d}")
        scales = self.process.scales(t, x_t.dim())
        time = t - 1 if isinstance(t, Tensor) else torch.full((len(x_t),), t - 1, device=x_t.device)
        output = self.call_decoder(x_t.to(self.dtype), time, z_sem).to(x_t.dtype).contiguous()  # the solvers' layout
        return scales.eps_from_output(self.process.prediction, output, x_t)

    def predict_x0(
        self, x_t: Float[Tensor, "b c h w"], t: int, z_sem: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """x0_hat: the clean image that eps_hat implies (Eq. 5)."""
        return solvers.x0_hat(x_t, self.predict_noise(x_t, t, z_sem), self.alpha_bar[t])


def _require_shape(part: str, output: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(output.shape) != shape:
        raise ConfigError(f"{part} returned shape {tuple(output.shape)}: must be {shape}; correct its `forward`")
