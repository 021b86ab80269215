"""The noise-predicting UNet (paper Section 3.1, Table 5, Fig. 7).

Stages stand in the order of the published checkpoints, so that `diffae.compat.original` maps tensors one to one.
Networks know no noise schedule: time is the index 0..T-1.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.networks.layers import (
    Attention,
    Block,
    ResBlock,
    Stage,
    TimeEmbedding,
    bottleneck,
    contracting_path,
    group_norm,
    resample,
    zeroed,
)
from diffae.networks.settings import Shape, UNetConfig, patched


class Doubling(nn.Module):
    """Repeats every pixel 2x2. After a block, so that its convolutions do a quarter of the work."""

    def forward(self, x: Tensor, time: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        return resample(x, "up")


def expanding_path(config: UNetConfig, size: int, skips: list[int], block: Block) -> list[Stage]:
    """The mirror image: each stage also takes the output of one stage of the contracting path (widths in `skips`)."""
    skips, width = skips.copy(), skips[-1]
    stages: list[Stage] = []
    for level in reversed(range(len(config.channel_mult))):
        out = config.channel_mult[level] * config.model_channels
        for i in range(config.res_blocks + 1):
            blocks: list[nn.Module] = [block(width + skips.pop(), out)]
            width = out
            if size >> level in config.attention_resolutions:
                blocks.append(Attention(width, config.heads, config.norm_groups))
            if level > 0 and i == config.res_blocks:
                last = config.upsampling == "last"
                blocks += [block(width, width), Doubling()] if last else [block(width, width, how="up")]
            stages.append(Stage(blocks))
    return stages


class Unfold(nn.Sequential):
    """z_sem (b, d) -> feature map (b, width, side, side): linear to a thin map, widened by a 1x1 convolution."""

    def __init__(self, z_channels: int, channels: int, width: int, side: int) -> None:
        thin = nn.Linear(z_channels, channels * side**2)
        super().__init__(thin, nn.Unflatten(1, (channels, side, side)), nn.Conv2d(channels, width, 1))


class UNet(nn.Module):
    """Predicts eps or v, as the diffusion settings say, from x_t, the time index and z_sem."""

    def __init__(self, config: UNetConfig, shape: Shape, z_sem_channels: int) -> None:
        super().__init__()
        block = partial(
            ResBlock,
            groups=config.norm_groups,
            time_channels=config.time_channels,
            z_channels=z_sem_channels,
            dropout=config.dropout,
        )
        shape = patched(shape, config.patch_size)
        self.patch_size = config.patch_size
        width = config.channel_mult[-1] * config.model_channels
        last = config.channel_mult[0] * config.model_channels
        self.time_embed = TimeEmbedding(config.model_channels, config.time_channels)
        stages, widths = contracting_path(config, shape, block)
        self.input_blocks = nn.ModuleList(stages)
        self.z_map: Unfold | None = None
        if z_sem_channels and config.z_map_channels:
            side = shape[1] >> (len(config.channel_mult) - 1)
            self.z_map = Unfold(z_sem_channels, config.z_map_channels, width, side)
        self.middle_block = bottleneck(config, width, block)
        self.output_blocks = nn.ModuleList(expanding_path(config, shape[1], widths, block))
        self.out_norm = group_norm(last, config.norm_groups)
        self.out = zeroed(nn.Conv2d(last, shape[0], 3, padding=1))

    def forward(
        self, x_t: Float[Tensor, "b c h w"], time: Int[Tensor, " b"], z_sem: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """x_t (b, c, h, w), time index (b,) in 0..T-1 and z_sem (b, d; None without encoder) -> (b, c, h, w)."""
        emb = F.silu(self.time_embed(time))  # every AdaGN applies SiLU to both first: done once, here
        z = None if z_sem is None else F.silu(z_sem)
        h = F.pixel_unshuffle(x_t, self.patch_size)
        skips: list[Tensor] = []
        for stage in self.input_blocks:
            h = stage(h, emb, z)
            skips.append(h)
        if self.z_map is not None:
            h = h + self.z_map(z_sem)
        h = self.middle_block(h, emb, z)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), emb, z)
        return F.pixel_shuffle(self.out(F.silu(self.out_norm(h))), self.patch_size)
