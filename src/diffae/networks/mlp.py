"""The latent prior's network (paper Section 4, Table 6): an MLP whose input is concatenated to every layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.networks.layers import TimeEmbedding


class SkipLayer(nn.Module):
    """Linear, scaled by the time embedding, LayerNorm, SiLU."""

    def __init__(self, channels: int, out_channels: int, time_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, out_channels)
        self.time = nn.Linear(time_channels, out_channels)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, h: Float[Tensor, "b c"], time: Float[Tensor, "b dt"]) -> Float[Tensor, "b c2"]:
        return F.silu(self.norm(self.linear(h) * (1 + self.time(time))))


class SkipMLP(nn.Module):
    """Predicts the noise in z_t (b, d), from z_t and the time index (b,) in 0..T-1."""

    def __init__(self, z_channels: int, hidden_channels: int, layers: int, sinusoids: int = 64) -> None:
        super().__init__()
        self.time_embed = TimeEmbedding(sinusoids, z_channels)
        inputs = [z_channels] + [hidden_channels + z_channels] * (layers - 1)
        hidden = [SkipLayer(c, hidden_channels, z_channels) for c in inputs[:-1]]
        self.layers = nn.ModuleList([*hidden, nn.Linear(inputs[-1], z_channels)])

    def forward(self, z_t: Float[Tensor, "b d"], time: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """z_t (b, d) and time index (b,) -> (b, d)."""
        emb = F.silu(self.time_embed(time))
        h = self.layers[0](z_t, emb)
        for layer in self.layers[1:-1]:
            h = layer(torch.cat([h, z_t], dim=1), emb)
        return self.layers[-1](torch.cat([h, z_t], dim=1))
