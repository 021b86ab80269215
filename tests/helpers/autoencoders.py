"""Tiny autoencoders of diffusers' own classes, with random weights, as folders that its `save_pretrained` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

_BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {**_BLOCKS, "block_out_channels": (4, 8), "norm_num_groups": 2, "latent_channels": 3},
    "VQModel": {
        **_BLOCKS, "block_out_channels": (4, 8), "norm_num_groups": 2, "latent_channels": 3, "num_vq_embeddings": 8,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4), "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1), "latent_channels": 3,
    },
    "AutoencoderDC": {
        "latent_channels": 4, "attention_head_dim": 4, "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8), "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1),
        "encoder_qkv_multiscales": ((), ()), "decoder_qkv_multiscales": ((), ()),
    },
    "AutoencoderRAE": {
        "encoder_hidden_size": 64, "encoder_num_hidden_layers": 1, "encoder_patch_size": 4, "encoder_input_size": 16,
        "decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 8, "patch_size": 4,
    },
}  # fmt: skip


def save_autoencoder(folder: Path, kind: str = "AutoencoderKL", seed: int = 0, **changes: Any) -> str:
    """Save one that takes 16 x 16 images; returns its folder."""
    diffusers = pytest.importorskip("diffusers")
    if kind == "AutoencoderRAE":
        pytest.importorskip("transformers")
    torch.manual_seed(seed)
    getattr(diffusers, kind)(**{**SETTINGS[kind], **changes}).save_pretrained(folder)
    return str(folder)
