"""The diffusion autoencoder a user holds: images <-> (z_sem, x_T).

Shapes: b images of c channels and size x size pixels, d = z_sem's size. Images as tensors are float32 in [-1, 1].
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffae import checkpoint, official
from diffae.config import ModelConfig, Sampling, require
from diffae.diffusion import inversion, solvers
from diffae.diffusion.grids import levels_of
from diffae.diffusion.paths import lerp, slerp
from diffae.diffusion.process import Scales
from diffae.diffusion.schedules import alpha_bar_of
from diffae.errors import ConfigError, DataError
from diffae.images import as_batch
from diffae.networks.autoencoder import AutoencoderNetworks

BATCH = 64
"""Images that go through the networks at once; longer batches are taken in parts, which bounds memory."""


@dataclass(frozen=True)
class Code:
    """What an image becomes: the semantic and the stochastic code.

    Attributes:
        z_sem: (b, d); None for a model without an encoder.
        x_T: (b, c, size, size); None where only z_sem was asked for.
        residual: (b,) how far the worst step of exact inversion is from its solution: root mean square, images in
            [-1, 1]. None for explicit inversion, which does not know.
        calls: (b,) network calls spent on each image's x_T.
    """

    z_sem: Float[Tensor, "b d"] | None
    x_T: Float[Tensor, "b c h w"] | None = None
    residual: Float[Tensor, " b"] | None = None
    calls: Int[Tensor, " b"] | None = None

    def __len__(self) -> int:
        first = self.z_sem if self.z_sem is not None else self.x_T
        return 0 if first is None else len(first)

    def __getitem__(self, rows: int | slice | Tensor) -> Code:
        """The code of one image, or of some; always with the batch dimension."""
        if isinstance(rows, int):
            rows = slice(rows, rows + 1 or None)
        return Code(*(None if x is None else x[rows] for x in (self.z_sem, self.x_T, self.residual, self.calls)))


class DiffusionAutoencoder:
    """A trained model: encodes images, decodes codes, and everything between (paper Section 3).

    Make one with `from_pretrained`, `from_official`, or, untrained, from a `ModelConfig`.
    """

    def __init__(self, config: ModelConfig, networks: AutoencoderNetworks | None = None) -> None:
        self.config = config
        self.networks = (networks if networks is not None else AutoencoderNetworks(config.network)).eval()
        self.alpha_bar = alpha_bar_of(config.diffusion)

    # ------------------------------------------------------------------ on disk

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device | None = None) -> DiffusionAutoencoder:
        """Read a run folder, or a repository of the Hugging Face Hub ("owner/name").

        Args:
            source: the folder or the Hub id.
            device: where to put the networks; by default a GPU if there is one, else the CPU.

        Raises:
            CheckpointError: nothing there, damaged files, or weights of another configuration.
        """
        folder = Path(source)
        if not folder.exists() and str(source).count("/") == 1 and not str(source).startswith((".", "~")):
            folder = checkpoint.download(str(source))
        model = cls(checkpoint.read_model_config(folder))
        weights, _ = checkpoint.read_tensors(folder / checkpoint.WEIGHTS)
        checkpoint.load_weights(model.networks, weights, folder / checkpoint.WEIGHTS)
        return model.to(device if device is not None else default_device())

    @classmethod
    def from_official(
        cls,
        path: str | Path,
        num_heads: int = 1,
        image_size: int | None = None,
        device: str | torch.device | None = None,
    ) -> DiffusionAutoencoder:
        """Read a checkpoint published by the paper's authors; no pickled code is run.

        Args:
            path: the Lightning checkpoint, `last.ckpt`.
            num_heads: attention heads, which shapes cannot tell.
            image_size: pixels; by default read from the checkpoint's `x_T` buffer.
            device: as for `from_pretrained`.

        Raises:
            CheckpointError: not such a checkpoint, tensors missing or of unknown names, or an unknown image size.
        """
        config, weights = official.read(Path(path), num_heads, image_size)
        model = cls(config)
        checkpoint.load_weights(model.networks, weights, Path(path))
        return model.to(device if device is not None else default_device())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors: all that `from_pretrained` needs."""
        checkpoint.write_config(Path(folder), self.config)
        checkpoint.write_tensors(Path(folder) / checkpoint.WEIGHTS, self.networks.state_dict(), {})

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model to the Hugging Face Hub as "owner/name"; returns its address there."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return checkpoint.upload(Path(folder), repo_id, private=private, token=token)

    def to(self, device: str | torch.device) -> DiffusionAutoencoder:
        """Move the networks; returns self."""
        self.networks.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.parameters()).device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, size, size) of the images this model was made for."""
        network = self.config.network
        return network.image_channels, network.image_size, network.image_size

    def fingerprint(self) -> str:
        """A short hash of settings and weights: codes carry it, so that they are not decoded by another model."""
        digest = hashlib.sha256(repr(self.config).encode())
        for name, tensor in self.networks.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    # ------------------------------------------------------------------ the network

    def predict_noise(
        self, x_t: Float[Tensor, "b c h w"], t: int | Int[Tensor, " b"], z_sem: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """eps_hat(x_t, t, z_sem): the noise in x_t at level t, 1..T (a number for the whole batch, or (b,)).

        Raises:
            DataError: z_sem for a model without an encoder, or none for one with.
            ConfigError: a number t outside 1..T (tensors are not looked into: that would wait for the device).
        """
        if (z_sem is None) == self.config.network.has_encoder:
            d = self.config.network.z_sem_channels
            raise DataError(f"z_sem is {'absent' if d else 'given'}: this model's network takes z_sem of size {d}")
        if isinstance(t, Tensor):
            time, scales = t - 1, Scales.at(self.alpha_bar, t, x_t.dim())
        else:
            require(1 <= t < len(self.alpha_bar), "t", t, f"must lie in 1..{len(self.alpha_bar) - 1}")
            time, scales = torch.full((len(x_t),), t - 1, device=x_t.device), Scales.at_level(self.alpha_bar[t])
        output = self.networks.unet(x_t, time, z_sem)
        return scales.eps_from_output(self.config.diffusion.prediction, output, x_t)

    def predict_x0(
        self, x_t: Float[Tensor, "b c h w"], t: int, z_sem: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """x0_hat: the clean image that eps_hat implies (Eq. 5)."""
        return solvers.x0_hat(x_t, self.predict_noise(x_t, t, z_sem), self.alpha_bar[t])

    # ------------------------------------------------------------------ image -> code

    @torch.no_grad()
    def encode_semantic(self, images: Any) -> Float[Tensor, "b d"]:
        """z_sem of images: one network call.

        Args:
            images: PIL image, path, uint8 or uint16 array, float tensor in [-1, 1], or a list of these.

        Raises:
            ConfigError: this model has no encoder.
            DataError: the images cannot be used (says which and why).
        """
        encoder = self.networks.encoder
        if encoder is None:
            raise ConfigError("z_sem_channels is 0: this model has no encoder; train one without --no-encoder")
        x_0 = self._batch(images)
        return torch.cat([encoder(x_0[rows]) for rows in _parts(len(x_0))])

    @torch.no_grad()
    def encode(
        self, images: Any, sampling: Sampling | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Code:
        """(z_sem, x_T) of images: what `decode`, with the same sampling, turns back into them.

        Args:
            images: as for `encode_semantic`.
            sampling: steps, grid and inversion; exact inversion by default.
            progress: called with the number of images done so far.
        """
        sampling = sampling or Sampling()
        x_0 = self._batch(images)
        codes = []
        for rows in _parts(len(x_0)):
            z_sem = self.encode_semantic(x_0[rows]) if self.networks.encoder is not None else None
            codes.append(self._encode_part(x_0[rows], z_sem, sampling))
            if progress:
                progress(min(rows.stop, len(x_0)))
        return _concatenate(codes)

    def _encode_part(self, x_0: Tensor, z_sem: Tensor | None, sampling: Sampling) -> Code:
        levels = self._levels(sampling)
        if sampling.inversion == "exact":

            def predict(x: Tensor, t: int, rows: Tensor) -> Tensor:
                return self.predict_noise(x, t, None if z_sem is None else z_sem[rows])

            limits = {"tolerance": sampling.tolerance, "max_iterations": sampling.max_iterations}
            found = inversion.encode_exact(predict, x_0, levels, self.alpha_bar, **limits)
            return Code(z_sem, found.x_T, found.residual, found.calls)
        encode = solvers.encode_official if sampling.inversion == "official" else solvers.encode_explicit
        x_T = encode(self._given(z_sem), x_0, levels, self.alpha_bar, clip=sampling.clip_x0)
        return Code(z_sem, x_T, None, torch.full((len(x_0),), sampling.steps, device=x_0.device))

    # ------------------------------------------------------------------ code -> image

    @torch.no_grad()
    def decode(
        self,
        code: Code | None = None,
        *,
        z_sem: Float[Tensor, "b d"] | None = None,
        x_T: Float[Tensor, "b c h w"] | None = None,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
        watch: solvers.Watch | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Images, float32, near [-1, 1], from a `Code`, or from z_sem and x_T.

        Args:
            code: both codes at once; or else
            z_sem: semantic codes (b, d), and
            x_T: stochastic codes; drawn from N(0, I) with `generator` where absent.
            sampling: steps, grid and clipping; those the code was made with, to return to the image.
            generator: source of random x_T, on the CPU.
            watch: called with (t, x0_hat before clipping) at every step (paper Fig. 6), for each 64 images in turn.

        Raises:
            DataError: codes of the wrong shape, or not finite.
        """
        sampling = sampling or Sampling()
        if code is not None:
            z_sem, x_T = code.z_sem, code.x_T
        z_sem, x_T = self._checked(z_sem, x_T, generator)
        parts = []
        for rows in _parts(len(x_T)):
            given = self._given(None if z_sem is None else z_sem[rows])
            levels = self._levels(sampling)
            parts.append(solvers.decode(given, x_T[rows], levels, self.alpha_bar, clip=sampling.clip_x0, watch=watch))
        return torch.cat(parts)

    def interpolate(
        self, a: Code, b: Code, frames: int, sampling: Sampling | None = None
    ) -> Float[Tensor, "frames c h w"]:
        """Images on the way from code a to code b (one image each): lerp on z_sem, slerp on x_T (Section 5.2).

        Raises:
            ConfigError: fewer than 2 frames.
            DataError: codes of more than one image, or without x_T.
        """
        if frames < 2:
            raise ConfigError(f"frames is {frames}: must be at least 2, the two images themselves")
        if len(a) != 1 or len(b) != 1 or a.x_T is None or b.x_T is None:
            raise DataError(f"codes of {len(a)} and {len(b)} images: interpolation takes one image each, with its x_T")
        weight = torch.linspace(0, 1, frames)
        z_sem = None if a.z_sem is None or b.z_sem is None else lerp(a.z_sem, b.z_sem, weight)
        return self.decode(z_sem=z_sem, x_T=slerp(a.x_T, b.x_T, weight), sampling=sampling)

    # ------------------------------------------------------------------ helpers

    def _batch(self, images: Any) -> Tensor:
        channels, size, _ = self.image_shape
        given = self.config.input
        return as_batch(images, size, channels, crop=given.crop, background=given.background).to(self.device)

    def _levels(self, sampling: Sampling) -> Sequence[int]:
        return levels_of(sampling.steps, sampling.grid, self.config.diffusion.levels)

    def _given(self, z_sem: Tensor | None) -> solvers.PredictNoise:
        return lambda x, t: self.predict_noise(x, t, z_sem)

    def _checked(
        self, z_sem: Tensor | None, x_T: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor | None, Tensor]:
        """Both codes on the model's device, of matching shapes; x_T drawn where absent."""
        d = self.config.network.z_sem_channels
        if (z_sem is None) == (d > 0):
            raise DataError(f"z_sem is {'absent' if d else 'given'}: this model decodes with z_sem of size {d}")
        if z_sem is not None and (z_sem.dim() != 2 or z_sem.shape[1] != d):
            raise DataError(f"z_sem has shape {tuple(z_sem.shape)}: this model's is (images, {d})")
        if x_T is None:
            if z_sem is None:
                raise DataError("x_T is absent: give x_T, whose first dimension says how many images to decode")
            x_T = torch.randn((len(z_sem), *self.image_shape), generator=generator)
        if tuple(x_T.shape[1:]) != self.image_shape:
            raise DataError(f"x_T has shape {tuple(x_T.shape)}: this model's is (images, {self.image_shape})")
        for name, value in (("z_sem", z_sem), ("x_T", x_T)):
            if value is not None and (len(value) != len(x_T) or not bool(torch.isfinite(value).all())):
                raise DataError(f"{name} of {len(value)} images: must be finite, and one for each of {len(x_T)} x_T")
        return None if z_sem is None else z_sem.to(self.device), x_T.to(self.device)


def default_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def _parts(count: int) -> Iterator[slice]:
    """Slices of at most BATCH images; one empty slice for none."""
    return (slice(start, start + BATCH) for start in range(0, max(count, 1), BATCH))


def _concatenate(codes: list[Code]) -> Code:
    def join(name: str) -> Tensor | None:
        parts = [getattr(code, name) for code in codes]
        return None if parts[0] is None else torch.cat(parts)

    return Code(join("z_sem"), join("x_T"), join("residual"), join("calls"))
