"""Autoencoders to compare a model with: PCA, a plain autoencoder and a VAE of the same code size, and your own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffae.config import ModelConfig
from diffae.errors import DataError
from diffae.networks.layers import ResBlock
from diffae.networks.settings import Shape, UNetEncoderConfig
from diffae.training.arrays import train_on_arrays
from diffae.training.settings import TrainingConfig

BATCH = 64
"""Images per call of a baseline."""


@dataclass(frozen=True)
class Baseline:
    """Any autoencoder, as two functions of batches: `Baseline("mine", my_encode, my_decode)`."""

    name: str
    encode: Callable[[Float[Tensor, "b c h w"]], Tensor]
    """Images in [-1, 1] => codes, (b, ...)."""
    decode: Callable[[Tensor], Float[Tensor, "b c h w"]]
    """Codes => images in about [-1, 1]."""
    key: str = ""
    """Identifies the weights: results are computed again when it changes."""

    def codes(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Encode images to one vector each.

        Raises:
            DataError: the baseline fails on these images.
        """
        return torch.cat([self._run(self.encode, part, part).flatten(1).cpu() for part in x.split(BATCH)])

    def reconstruct(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c h w"], int]:
        """Encode and decode images.

        Returns:
            The reconstructions, and the size of a code.
        Raises:
            DataError: the baseline fails on these images, or changes their shape.
        """
        codes = [self._run(self.encode, part, part) for part in x.split(BATCH)]
        back = torch.cat([self._run(self.decode, code, x).cpu() for code in codes])
        if back.shape != x.shape:
            shapes = f"{tuple(back.shape[1:])} for {tuple(x.shape[1:])}"
            raise DataError(f"baseline {self.name} returns images of shape {shapes}: it must keep their size")
        return back, codes[0][0].numel()

    @torch.no_grad()
    def _run(self, function: Callable[[Tensor], Tensor], value: Tensor, images: Tensor) -> Tensor:
        try:
            return function(value)
        except Exception as error:  # a user's function may raise anything
            raise DataError(
                f"baseline {self.name} fails on images {tuple(images.shape[1:])}: {_reason(error)}"
            ) from None


def pca(x: Float[Tensor, "n c h w"], size: int, seed: int = 0) -> Baseline:
    """Fit the first `size` principal components of the pixels, or as many as there are images or values.

    Raises:
        DataError: fewer than 2 images.
    """
    from sklearn.decomposition import PCA

    if len(x) < 2:
        raise DataError(f"{len(x)} images: PCA needs at least 2")
    pixels = x.flatten(1).numpy()
    fitted = PCA(min(size, *pixels.shape), svd_solver="randomized", random_state=seed).fit(pixels)
    shape = x.shape[1:]
    return Baseline(
        "PCA",
        lambda images: torch.from_numpy(fitted.transform(images.cpu().flatten(1).numpy())),
        lambda code: torch.from_numpy(fitted.inverse_transform(code.numpy())).unflatten(1, shape),
    )


# ---------------------------------------------------------------------- plain autoencoder and VAE


def plain_encoder(config: ModelConfig) -> UNetEncoderConfig:
    """Settings of a baseline's encoder: the model's own if it is the paper's, else the paper's with its code size."""
    if isinstance(config.encoder, UNetEncoderConfig):
        return config.encoder
    return UNetEncoderConfig(z_sem_channels=config.z_sem_channels)


def plain(
    x: Float[Tensor, "n c h w"],
    model: ModelConfig,
    config: TrainingConfig,
    folder: Path,
    key: str,
    *,
    variational: bool,
) -> Baseline:
    """Train a plain convolutional autoencoder or VAE on images.

    Args:
        x: images in [-1, 1].
        model: the model to compare with, whose encoder's widths and code size are used.
        config: of the training.
        folder: for the weights, which are used again if they were trained with the same key.
        key: must change with everything the weights depend on.
        variational: a VAE, else a plain autoencoder.
    """
    encoder = plain_encoder(model)

    def loss(networks: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        [x_0] = batch
        if config.flip:
            mirror = torch.rand(len(x_0), 1, 1, 1, device=x_0.device) < 0.5
            x_0 = torch.where(mirror, x_0.flip(-1), x_0)
        return networks(x_0)

    make = partial(PlainAutoencoder, encoder, model.image_shape, variational=variational)
    trained = train_on_arrays(make, [x], loss, config, folder, key)
    assert isinstance(trained, PlainAutoencoder)
    return Baseline("VAE" if variational else "autoencoder", trained.encode, trained.decoder)


def plain_decoder(encoder: UNetEncoderConfig, shape: Shape) -> nn.Sequential:
    """z (b, d) -> image (b, c, h, w) in one pass, with the encoder's widths in reverse.

    There is no normalisation before the output: it would remove the brightness of the image.
    """
    widths = [mult * encoder.model_channels for mult in encoder.channel_mult]
    side, width = shape[1] >> (len(widths) - 1), widths[-1]
    first = nn.Linear(encoder.z_sem_channels, width * side**2)
    layers: list[nn.Module] = [first, nn.Unflatten(1, (width, side, side))]
    for level in reversed(range(len(widths))):
        for _ in range(encoder.res_blocks + 1):
            layers.append(ResBlock(width, widths[level]))
            width = widths[level]
        if level:
            layers.append(ResBlock(width, width, how="up"))
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(width, shape[0], 3, padding=1))


class PlainAutoencoder(nn.Module):
    """`encoder` and `decoder`; the encoder of a variational one returns means and log variances."""

    def __init__(self, encoder: UNetEncoderConfig, shape: Shape, *, variational: bool) -> None:
        super().__init__()
        self.variational = variational
        outputs = encoder.z_sem_channels * (2 if variational else 1)
        self.encoder = replace(encoder, z_sem_channels=outputs).build(shape)
        self.decoder = plain_decoder(encoder, shape)

    def encode(self, x_0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The code; of a variational autoencoder its mean."""
        code = self.encoder(x_0)
        return code.chunk(2, dim=1)[0] if self.variational else code

    def forward(self, x_0: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """The mean loss of a batch: squared error, or the negative evidence lower bound per value."""
        if not self.variational:
            return F.mse_loss(self.decoder(self.encoder(x_0)), x_0)
        mean, log_variance = self.encoder(x_0).chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = (self.decoder(z) - x_0).square().mean()
        # the decoder's variance is at its optimum, the mean squared error itself
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
        return error.clamp(min=1e-8).log() / 2 + divergence / x_0[0].numel()


# ---------------------------------------------------------------------- autoencoders of diffusers


def open_diffusers(folder: str | Path) -> Baseline:
    """Load an `AutoencoderKL` or `VQModel` (the paper's VQ-GAN row) of the diffusers library from its folder.

    Raises:
        DataError: no such folder, another kind of model, or diffusers is not installed.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise DataError(f"autoencoder {folder}: must be a diffusers folder with config.json; check the path")
    try:
        from diffusers.models.auto_model import AutoModel
    except ImportError:
        raise DataError(f"autoencoder {folder} needs diffusers: run `pip install diffae[diffusers]`") from None
    try:
        found = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except Exception as error:  # the library may raise anything
        raise DataError(f"autoencoder {folder} cannot be read ({_reason(error)}); check the folder") from None
    model, kind = found.eval(), type(found).__name__
    encoders: dict[str, Callable[[Tensor], Tensor]] = {
        "AutoencoderKL": lambda x: model.encode(x).latent_dist.mode(),
        "VQModel": lambda x: model.encode(x).latents,
    }
    if kind not in encoders:
        raise DataError(f"autoencoder {folder} is of kind {kind}: must be {' or '.join(encoders)}")
    key = repr(sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()))
    return Baseline(folder.name, encoders[kind], lambda z: model.decode(z).sample, key)


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
