"""What a diffusion autoencoder is compared with: PCA, plain autoencoders of the same code size, those of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from diffae.config import NetworkConfig, TrainingConfig
from diffae.errors import DataError
from diffae.evaluation.plain import PlainAutoencoder
from diffae.training.arrays import train_on_arrays

BATCH = 64
"""Images that go through a baseline at once."""


@dataclass(frozen=True)
class Baseline:
    """Any autoencoder, as two functions of batches.

    Anything can stand here: `Baseline("mine", my_encode, my_decode)`.
    """

    name: str
    encode: Callable[[Float[Tensor, "b c h w"]], Tensor]
    """Images in [-1, 1] => codes, (b, ...)."""
    decode: Callable[[Tensor], Float[Tensor, "b c h w"]]
    """Codes => images, near [-1, 1]."""
    key: str = ""
    """What tells it from others of the name; where it is the same, an evaluation keeps what it found."""

    def codes(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The code of each image as a vector.

        Raises:
            DataError: a baseline of other images.
        """
        return torch.cat([self._run(self.encode, part, part).flatten(1).cpu() for part in x.split(BATCH)])

    @torch.no_grad()
    def _run(self, function: Callable[[Tensor], Tensor], value: Tensor, images: Tensor) -> Tensor:
        """What somebody else's function makes of images, or of their codes."""
        try:
            return function(value)
        except Exception as error:  # of whatever class they raise
            shape = tuple(images.shape[1:])
            raise DataError(f"baseline {self.name} fails on images {shape}: {_reason(error)}") from None

    def reconstruct(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c h w"], int]:
        """The images that come back, and the size of the code.

        Raises:
            DataError: a baseline of another image size.
        """
        parts, size = [], 0
        for part in x.split(BATCH):
            code = self._run(self.encode, part, part)
            back = self._run(self.decode, code, part).cpu()
            if back.shape != part.shape:
                shapes = f"{tuple(back.shape[1:])} for {tuple(part.shape[1:])}"
                raise DataError(f"baseline {self.name} returns images of shape {shapes}: it must keep their size")
            size = code[0].numel()
            parts.append(back)
        return torch.cat(parts), size


def pca(x: Float[Tensor, "n c h w"], size: int, seed: int = 0) -> Baseline:
    """Principal components of the pixels, at most as many as there are images or values.

    Raises:
        DataError: fewer than 2 images.
    """
    from sklearn.decomposition import PCA

    if len(x) < 2:
        raise DataError(f"{len(x)} images: PCA needs at least 2")
    pixels = x.flatten(1).numpy()
    fitted = PCA(min(size, *pixels.shape), svd_solver="randomized", random_state=seed).fit(pixels)
    shape = tuple(x.shape[1:])

    def encode(images: Tensor) -> Tensor:
        return torch.from_numpy(fitted.transform(images.cpu().flatten(1).numpy()))

    def decode(code: Tensor) -> Tensor:
        return torch.from_numpy(fitted.inverse_transform(code.numpy()).astype(np.float32)).unflatten(1, shape)

    return Baseline("PCA", encode, decode)


def plain(
    x: Float[Tensor, "n c h w"],
    network: NetworkConfig,
    config: TrainingConfig,
    folder: Path,
    key: str,
    *,
    variational: bool,
    console: Console | None = None,
) -> Baseline:
    """A plain convolutional autoencoder or VAE with the encoder of `network`, trained on these images.

    Read from the folder where it was trained before with the same key; see `diffae.training.arrays`.
    """
    trained = train_on_arrays(
        lambda: PlainAutoencoder(network, variational=variational),
        [x],
        lambda networks, batch: networks(_mirrored(batch[0]) if config.flip else batch[0]),
        config,
        folder,
        key,
        console,
    )
    assert isinstance(trained, PlainAutoencoder)
    return Baseline("VAE" if variational else "autoencoder", trained.encode, trained.decoder)


def open_diffusers(folder: str | Path) -> Baseline:
    """An `AutoencoderKL` or `VQModel` of the diffusers library (the paper's VQ-GAN row), from its folder.

    Raises:
        DataError: no such folder, another kind of model, or diffusers is not installed.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise DataError(f"autoencoder {folder}: must be a diffusers folder with config.json; check the path")
    try:
        from diffusers.models.auto_model import AutoModel
    except ImportError:
        remedy = "install it with `pip install diffae[diffusers]`"
        raise DataError(f"autoencoder {folder} needs diffusers: {remedy}") from None
    try:
        found = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except Exception as error:  # of whatever class they raise
        raise DataError(f"autoencoder {folder} cannot be read ({_reason(error)}); check the folder") from None
    model, kind = found.eval(), type(found).__name__
    key = repr(sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()))
    if kind == "AutoencoderKL":
        return Baseline(
            folder.name, lambda x: model.encode(x).latent_dist.mode(), lambda z: model.decode(z).sample, key
        )
    if kind == "VQModel":
        return Baseline(folder.name, lambda x: model.encode(x).latents, lambda z: model.decode(z).sample, key)
    raise DataError(f"autoencoder {folder} is of kind {kind}: must be AutoencoderKL or VQModel")


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _mirrored(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Every other image mirrored, at random."""
    mirror = torch.rand(len(x), device=x.device) < 0.5
    return torch.where(mirror[:, None, None, None], x.flip(-1), x)
