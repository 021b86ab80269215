"""The parts of the UNet and of the semantic encoder (Dhariwal & Nichol 2021; paper Section 3, Fig. 7).

Shapes: b images, c channels, h and w pixels of a feature map, n = h * w positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.networks.settings import Shape, UNetConfig, UNetEncoderConfig

Resample = Literal["down", "up"]


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all parameters set to zero, so that a residual block ending in it starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


GROUPS = 32
"""Groups of channels that the paper's networks normalise together."""


class GroupNorm(nn.GroupNorm):
    """PyTorch's group normalisation, with a detour around one slow case on CPUs.

    For small channels-last maps in bfloat16 with fewer than 16 channels per group, PyTorch takes 10 to 25 times as long
    as in the contiguous layout; converting there and back is cheaper. The memory layout of the input is preserved.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        thin = input.dtype == torch.bfloat16 and self.num_channels < 16 * self.num_groups
        if thin and input.is_cpu and input.shape[2] * input.shape[3] < 1024 and not input.is_contiguous():
            return super().forward(input.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(input)


def group_norm(channels: int, groups: int = GROUPS) -> GroupNorm:
    """GroupNorm in `groups` groups, or in fewer where that does not divide the channels."""
    return GroupNorm(math.gcd(groups, channels), channels)


def sinusoidal_embedding(time: Int[Tensor, " b"], channels: int) -> Float[Tensor, "b channels"]:
    """Cosines, then sines, of the time index at wavelengths from 2 pi to 10000 * 2 pi (Vaswani et al. 2017)."""
    half = channels // 2
    frequency = torch.exp(torch.arange(half, device=time.device, dtype=torch.float32) * (-math.log(10_000) / half))
    angle = time.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def halve(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Average 2x2 pixels.

    On CPUs PyTorch's pooling is fast only in channels-last. In the contiguous layout a matrix product over two rows of
    pixels, which are adjacent in memory, is several times faster, forwards and backwards.
    """
    if not (x.is_cpu and x.is_contiguous()):
        return F.avg_pool2d(x, 2)
    b, c, h, w = x.shape
    column = torch.arange(2 * w) % w // 2  # of the result, to which each pixel of the two rows adds a quarter
    quarter = (column[:, None] == torch.arange(w // 2)).to(x.dtype) / 4  # unlike one_hot, traced by torch.compile
    return x.view(b, c, h // 2, 2 * w) @ quarter


def resample(x: Float[Tensor, "b c h w"], how: Resample | None) -> Float[Tensor, "b c h2 w2"]:
    """Halve by averaging 2x2 pixels, double by repeating them, or return x as it is."""
    if how == "down":
        return halve(x)
    if how == "up":
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    return x


class TimeEmbedding(nn.Sequential):
    """Time index (b,) -> embedding (b, channels)."""

    def __init__(self, sinusoids: int, channels: int) -> None:
        super().__init__(nn.Linear(sinusoids, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.sinusoids = sinusoids

    def forward(self, input: Int[Tensor, " b"]) -> Float[Tensor, "b channels"]:
        sinusoids = sinusoidal_embedding(input, self.sinusoids).to(next(self.parameters()).dtype)
        return cast(Tensor, super().forward(sinusoids))  # pyright: ignore[reportUnknownMemberType]


class AdaGN(nn.Module):
    """Group normalisation modulated by the level and by z_sem (paper Eq. 7).

    AdaGN(h, t, z_sem) = z_scale * (t_scale * GroupNorm(h) + t_shift), the scales stored as offsets from 1.
    With `z_channels` = 0 there is no z_scale (the DDIM baseline).
    """

    optimizer_group = "adam"
    """Muon leaves these parameters to Adam: orthogonalising them would be a third of its arithmetic."""

    def __init__(self, channels: int, time_channels: int, z_channels: int, groups: int = GROUPS) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.time = nn.Linear(time_channels, 2 * channels)
        self.z = nn.Linear(z_channels, channels) if z_channels else None

    def forward(
        self, h: Float[Tensor, "b c h w"], time: Float[Tensor, "b dt"], z: Float[Tensor, "b dz"] | None
    ) -> Float[Tensor, "b c h w"]:
        t_scale, t_shift = self.time(time).chunk(2, dim=1)
        scale, shift = 1 + t_scale, t_shift
        if self.z is not None:
            z_scale = 1 + self.z(z)
            scale, shift = z_scale * scale, z_scale * shift  # multiplied out: one pass over h instead of two
        return torch.addcmul(shift[..., None, None], scale[..., None, None], self.norm(h))


class ResBlock(nn.Module):
    """Residual block, optionally halving or doubling the feature map.

    The UNet's blocks have AdaGN and a second convolution; the encoder's, which depend on neither t nor z_sem
    (`time_channels` = 0), end after the first, as in the published code.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        groups: int = GROUPS,
        time_channels: int = 0,
        z_channels: int = 0,
        dropout: float = 0.0,
        how: Resample | None = None,
    ) -> None:
        super().__init__()
        self.how: Resample | None = how
        self.norm1 = group_norm(channels, groups)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.modulation: AdaGN | None = None
        if time_channels:
            self.modulation = AdaGN(out_channels, time_channels, z_channels, groups)
            self.dropout = nn.Dropout(dropout)
            self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time: Float[Tensor, "b dt"] | None = None,
        z: Float[Tensor, "b dz"] | None = None,
    ) -> Float[Tensor, "b c2 h2 w2"]:
        h = self.conv1(resample(F.silu(self.norm1(x)), self.how))
        if self.modulation is not None:
            assert time is not None
            h = self.conv2(self.dropout(F.silu(self.modulation(h, time, z))))
        return self.skip(resample(x, self.how)) + h


def attend(
    q: Float[Tensor, "b heads n d"], k: Float[Tensor, "b heads n d"], v: Float[Tensor, "b heads n d"]
) -> Float[Tensor, "b heads n d"]:
    """softmax(q k^T / sqrt(d)) v.

    In bfloat16 on CPUs PyTorch's fused kernel takes 2 to 3 times as long as two matrix products, which are used while
    their n x n weights are small.
    """
    if not (q.is_cpu and q.dtype == torch.bfloat16 and q.shape[2] <= 1024):
        return F.scaled_dot_product_attention(q, k, v)
    weights = torch.softmax(q / math.sqrt(q.shape[3]) @ k.transpose(2, 3), dim=3, dtype=torch.float32)
    return weights.to(v.dtype) @ v


class Attention(nn.Module):
    """Self-attention over the positions of a feature map, with a residual connection.

    `qkv` holds each head's queries, keys and values together, one head after the other, as in the published weights.
    """

    def __init__(self, channels: int, heads: int, groups: int = GROUPS) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Tensor | None = None, z: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        b, c, h, w = x.shape
        positions = self.norm(x).flatten(2).transpose(1, 2)
        qkv = self.qkv(positions).view(b, h * w, self.heads, 3, c // self.heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        attended = attend(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + self.out(attended).transpose(1, 2).view(b, c, h, w)


class Stage(nn.ModuleList):
    """One stage of the network: blocks called in turn with the same t and z_sem."""

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Tensor | None = None, z: Tensor | None = None
    ) -> Float[Tensor, "b c2 h2 w2"]:
        for block in self:
            x = block(x, time, z)
        return x


Block = Callable[..., ResBlock]


class Stem(nn.Conv2d):
    """The first convolution, which ignores t and z_sem."""

    def forward(self, input: Tensor, time: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        return super().forward(input)


def contracting_path(
    config: UNetConfig | UNetEncoderConfig, shape: Shape, block: Block
) -> tuple[list[Stage], list[int]]:
    """Stem, then per level `res_blocks` blocks (with attention where configured), then a halving block between levels.

    Returns the stages, and the number of output channels of each.
    """
    mult = config.channel_mult
    width = mult[0] * config.model_channels
    stages, widths = [Stage([Stem(shape[0], width, 3, padding=1)])], [width]
    for level, m in enumerate(mult):
        for _ in range(config.res_blocks):
            blocks: list[nn.Module] = [block(width, m * config.model_channels)]
            width = m * config.model_channels
            if shape[1] >> level in config.attention_resolutions:
                blocks.append(Attention(width, config.heads, config.norm_groups))
            stages.append(Stage(blocks))
            widths.append(width)
        if level < len(mult) - 1:
            stages.append(Stage([block(width, width, how="down")]))
            widths.append(width)
    return stages, widths


def bottleneck(config: UNetConfig | UNetEncoderConfig, width: int, block: Block) -> Stage:
    """Block, attention, block on the smallest feature map."""
    return Stage([block(width, width), Attention(width, config.heads, config.norm_groups), block(width, width)])
