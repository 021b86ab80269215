"""The semantic encoder and the noise-predicting UNet (paper 3.1, 3.2, Table 5, Fig. 7).

Both are built from the same contracting path; stages stand in the order of the published checkpoints, so that
`diffae.compat.original` maps tensors one to one. Networks know no noise schedule: time is the index 0..T-1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.config import NetworkConfig
from diffae.networks.layers import Attention, ResBlock, Stage, TimeEmbedding, group_norm, resample, zeroed

Block = Callable[..., ResBlock]


class Stem(nn.Conv2d):
    """The first convolution, deaf to t and z_sem."""

    def forward(self, input: Tensor, time: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        return super().forward(input)


class Doubling(nn.Module):
    """Repeats every pixel 2x2: behind a block, whose convolutions then have a quarter of the work."""

    def forward(self, x: Tensor, time: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        return resample(x, "up")


def contracting_path(
    config: NetworkConfig, mult: tuple[int, ...], res_blocks: int, block: Block
) -> tuple[list[Stage], list[int]]:
    """Stem, then per level `res_blocks` blocks (with attention where named), then a halving block between levels.

    Returns the stages, and how many channels each puts out.
    """
    width = mult[0] * config.model_channels
    stages, widths = [Stage([Stem(config.image_channels, width, 3, padding=1)])], [width]
    for level, m in enumerate(mult):
        for _ in range(res_blocks):
            blocks: list[nn.Module] = [block(width, m * config.model_channels)]
            width = m * config.model_channels
            if config.image_size >> level in config.attention_resolutions:
                blocks.append(Attention(width, config.heads))
            stages.append(Stage(blocks))
            widths.append(width)
        if level < len(mult) - 1:
            stages.append(Stage([block(width, width, how="down")]))
            widths.append(width)
    return stages, widths


def expanding_path(config: NetworkConfig, skips: list[int], block: Block) -> list[Stage]:
    """The mirror image: each stage takes, beside its own input, that of one stage of the contracting path (`skips`)."""
    skips, width = skips.copy(), skips[-1]
    stages = []
    for level in reversed(range(len(config.channel_mult))):
        out = config.channel_mult[level] * config.model_channels
        for i in range(config.res_blocks + 1):
            blocks: list[nn.Module] = [block(width + skips.pop(), out)]
            width = out
            if config.image_size >> level in config.attention_resolutions:
                blocks.append(Attention(width, config.heads))
            if level > 0 and i == config.res_blocks:
                last = config.upsampling == "last"
                blocks += [block(width, width), Doubling()] if last else [block(width, width, how="up")]
            stages.append(Stage(blocks))
    return stages


def bottleneck(width: int, heads: int, block: Block) -> Stage:
    """Block, attention, block on the smallest feature map."""
    return Stage([block(width, width), Attention(width, heads), block(width, width)])


class Unfold(nn.Sequential):
    """z_sem (b, d) -> feature map (b, width, side, side): a linear map to a thin one, widened by a 1x1 convolution."""

    def __init__(self, z_channels: int, channels: int, width: int, side: int) -> None:
        thin = nn.Linear(z_channels, channels * side**2)
        super().__init__(thin, nn.Unflatten(1, (channels, side, side)), nn.Conv2d(channels, width, 1))


class UNet(nn.Module):
    """Predicts, from x_t, the time index and z_sem, what the diffusion settings name (eps or v)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        block = partial(
            ResBlock,
            time_channels=config.time_channels,
            z_channels=config.z_sem_channels,
            dropout=config.dropout,
        )
        width = config.channel_mult[-1] * config.model_channels
        last = config.channel_mult[0] * config.model_channels
        self.time_embed = TimeEmbedding(config.model_channels, config.time_channels)
        stages, widths = contracting_path(config, config.channel_mult, config.res_blocks, block)
        self.input_blocks = nn.ModuleList(stages)
        self.z_map: Unfold | None = None
        if config.has_encoder and config.z_map_channels:
            side = config.image_size >> (len(config.channel_mult) - 1)
            self.z_map = Unfold(config.z_sem_channels, config.z_map_channels, width, side)
        self.middle_block = bottleneck(width, config.heads, block)
        self.output_blocks = nn.ModuleList(expanding_path(config, widths, block))
        self.out_norm = group_norm(last)
        self.out = zeroed(nn.Conv2d(last, config.image_channels, 3, padding=1))

    def forward(
        self, x_t: Float[Tensor, "b c h w"], time: Int[Tensor, " b"], z_sem: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """x_t (b, c, h, w), time index (b,) in 0..T-1 and z_sem (b, d; None without encoder) -> (b, c, h, w)."""
        emb = F.silu(self.time_embed(time))  # every AdaGN takes both behind a SiLU: applied once, here
        z = None if z_sem is None else F.silu(z_sem)
        h, skips = x_t, []
        for stage in self.input_blocks:
            h = stage(h, emb, z)
            skips.append(h)
        if self.z_map is not None:
            h = h + self.z_map(z_sem)
        h = self.middle_block(h, emb, z)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), emb, z)
        return self.out(F.silu(self.out_norm(h)))


class SemanticEncoder(nn.Module):
    """x_0 (b, c, h, w) in [-1, 1] -> z_sem (b, d): contracting path, bottleneck, pooling, linear map.

    The paper's pooling is the global average, and its linear map a 1x1 convolution on the one position left: z_sem then
    has no more independent numbers than the last feature map has channels. "flatten" maps all positions linearly.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        mult = config.encoder_channel_mult
        width = mult[-1] * config.model_channels
        stages, _ = contracting_path(config, mult, config.encoder_res_blocks, ResBlock)
        self.input_blocks = nn.ModuleList(stages)
        self.middle_block = bottleneck(width, config.heads, ResBlock)
        self.out_norm = group_norm(width)
        self.pooling = config.encoder_pooling
        side = config.image_size >> (len(mult) - 1) if self.pooling == "flatten" else 1
        self.out = nn.Linear(width * side**2, config.z_sem_channels)

    def forward(self, x_0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Images (b, c, h, w) in [-1, 1] -> z_sem (b, d)."""
        h = x_0
        for stage in self.input_blocks:
            h = stage(h)
        h = F.silu(self.out_norm(self.middle_block(h)))
        return self.out(h.flatten(1) if self.pooling == "flatten" else h.mean(dim=(2, 3)))
