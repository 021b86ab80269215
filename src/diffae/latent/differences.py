"""What decoding leaves of an 8-bit image: the difference, modulo 256 and compressed, with which it is bit-exact."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from diffae.config import ModelConfig, Sampling
from diffae.data.images import to_samples
from diffae.errors import require
from diffae.latent.codes import Code
from diffae.latent.encoding import BATCH

_CHECKSUM = 4
"""Bytes of the image's CRC-32, before the compressed difference."""


class Decodes(Protocol):
    """What decodes codes, such as `diffae.DiffusionAutoencoder`."""

    @property
    def config(self) -> ModelConfig: ...
    def decode(self, code: Code, *, sampling: Sampling) -> Tensor: ...


def require_8_bits(config: ModelConfig) -> None:
    """Raise `ConfigError` unless a model's images are 8-bit."""
    dtype, windowed = config.input.dtype, config.input.window is not None
    require(dtype == "uint8" and not windowed, "residual", dtype, "needs a model of 8-bit images without a window")


def differences_of(model: Decodes, code: Code, pixels: Sequence[np.ndarray], sampling: Sampling) -> list[bytes]:
    """The difference between each image and what its code decodes to.

    Args:
        model: decodes; its images are 8-bit (`require_8_bits`).
        code: of the images, with x_T.
        pixels: the images (h, w, c), prepared for the model. Those that are not uint8 have an empty difference.
        sampling: that of the code.
    """
    found: list[bytes] = []
    for start in range(0, len(code), BATCH):  # the batches of `diffae decode`: others may round differently
        decoded = to_samples(model.decode(code[start : start + BATCH], sampling=sampling), model.config.input)
        found += map(_difference, pixels[start : start + BATCH], decoded)
    return found


def _difference(image: np.ndarray, decoded: UInt8[np.ndarray, "h w c"]) -> bytes:
    if image.dtype != np.uint8:
        return b""
    checksum = zlib.crc32(image.tobytes()).to_bytes(_CHECKSUM, "little")
    return checksum + zlib.compress((image - decoded).tobytes(), 9)


def restored(decoded: UInt8[np.ndarray, "h w c"], difference: bytes) -> tuple[UInt8[np.ndarray, "h w c"], bool]:
    """The image, and whether it is the original bit for bit.

    It is not where decoding rounds differently than where it was encoded: on another machine, or in another version of
    PyTorch.

    Raises:
        ValueError: a damaged difference.
    """
    try:
        octets = zlib.decompress(difference[_CHECKSUM:])
    except zlib.error as error:
        raise ValueError(f"a difference is damaged: {error}") from error
    image = decoded + np.frombuffer(octets, np.uint8).reshape(decoded.shape)
    return image, zlib.crc32(image.tobytes()) == int.from_bytes(difference[:_CHECKSUM], "little")
