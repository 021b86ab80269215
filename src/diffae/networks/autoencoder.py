"""The two networks of a diffusion autoencoder as one module: what is trained, saved and averaged together."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.config import NetworkConfig
from diffae.networks.unet import SemanticEncoder, UNet


class AutoencoderNetworks(nn.Module):
    """`unet` and `encoder`; without an encoder (the DDIM baseline) `encoder` is None."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.unet = UNet(config)
        self.encoder = SemanticEncoder(config) if config.has_encoder else None

    def forward(
        self, x_t: Float[Tensor, "b c h w"], time: Int[Tensor, " b"], x_0: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """The UNet's output at x_t and time index (b,), given z_sem of x_0: one training pass."""
        return self.unet(x_t, time, self.encoder(x_0) if self.encoder is not None else None)
