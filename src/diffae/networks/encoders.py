"""The semantic encoder (paper Section 3.2, Table 5, Fig. 7): an image becomes z_sem."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffae.networks.layers import ResBlock, bottleneck, contracting_path, group_norm
from diffae.networks.settings import Shape, UNetEncoderConfig, patched


class SemanticEncoder(nn.Module):
    """x_0 (b, c, h, w) in [-1, 1] -> z_sem (b, d): contracting path, bottleneck, pooling, linear map.

    The paper pools by the global average, and its linear map is a 1x1 convolution on the one position left: z_sem then
    has no more independent numbers than the last feature map has channels. "flatten" maps all positions linearly.
    """

    def __init__(self, config: UNetEncoderConfig, shape: Shape) -> None:
        super().__init__()
        shape = patched(shape, config.patch_size)
        self.patch_size = config.patch_size
        mult = config.channel_mult
        width = mult[-1] * config.model_channels
        block = partial(ResBlock, groups=config.norm_groups)
        stages, _ = contracting_path(config, shape, block)
        self.input_blocks = nn.ModuleList(stages)
        self.middle_block = bottleneck(config, width, block)
        self.out_norm = group_norm(width, config.norm_groups)
        self.pooling = config.pooling
        side = shape[1] >> (len(mult) - 1) if self.pooling == "flatten" else 1
        self.out = nn.Linear(width * side**2, config.z_sem_channels)

    def forward(self, x_0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Images (b, c, h, w) in [-1, 1] -> z_sem (b, d)."""
        h = F.pixel_unshuffle(x_0, self.patch_size)
        for stage in self.input_blocks:
            h = stage(h)
        h = F.silu(self.out_norm(self.middle_block(h)))
        return self.out(h.flatten(1) if self.pooling == "flatten" else h.mean(dim=(2, 3)))
