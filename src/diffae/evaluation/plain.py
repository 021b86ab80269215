"""A plain convolutional autoencoder and a VAE, of the diffusion autoencoder's encoder and code size: baselines."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffae.config import NetworkConfig
from diffae.networks.layers import ResBlock
from diffae.networks.unet import SemanticEncoder


class PlainDecoder(nn.Module):
    """z (b, d) -> image (b, c, h, w): the semantic encoder's widths in reverse, in one pass.

    No normalisation before the output: it would take away the brightness of the image.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = [mult * config.model_channels for mult in config.encoder_channel_mult]
        self.side = config.image_size >> (len(widths) - 1)
        self.widest = widths[-1]
        self.input = nn.Linear(config.z_sem_channels, self.widest * self.side**2)
        blocks: list[nn.Module] = []
        width = self.widest
        for level in reversed(range(len(widths))):
            for _ in range(config.encoder_res_blocks + 1):
                blocks.append(ResBlock(width, widths[level]))
                width = widths[level]
            if level:
                blocks.append(ResBlock(width, width, how="up"))
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Conv2d(width, config.image_channels, 3, padding=1)

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        h = self.input(z).unflatten(1, (self.widest, self.side, self.side))
        return self.output(F.silu(self.blocks(h)))


class PlainAutoencoder(nn.Module):
    """`encoder` and `decoder`; a variational one's encoder puts out means and log variances."""

    def __init__(self, config: NetworkConfig, *, variational: bool) -> None:
        super().__init__()
        self.variational = variational
        outputs = config.z_sem_channels * (2 if variational else 1)
        self.encoder = SemanticEncoder(replace(config, z_sem_channels=outputs))
        self.decoder = PlainDecoder(config)

    def encode(self, x_0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The code, or its mean."""
        code = self.encoder(x_0)
        return code.chunk(2, dim=1)[0] if self.variational else code

    def forward(self, x_0: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """The mean loss of a batch."""
        if not self.variational:
            return F.mse_loss(self.decoder(self.encoder(x_0)), x_0)
        mean, log_variance = self.encoder(x_0).chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = (self.decoder(z) - x_0).square().mean()
        # negative evidence bound per value, the decoder's variance at its optimum, the mean squared error itself
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
        return error.clamp(min=1e-8).log() / 2 + divergence / x_0[0].numel()
