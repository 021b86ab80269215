"""The diffusion autoencoder a user holds: images <-> (z_sem, x_T).

Shapes: b images of c channels and size x size pixels, d = z_sem's size. Images as tensors are float32 in [-1, 1].
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffae import checkpoint
from diffae.compat.original.architecture import Facts
from diffae.compat.original.reading import read
from diffae.config import Arithmetic, ModelConfig, Sampling
from diffae.data.images import as_batch
from diffae.device import default_device, parts
from diffae.diffusion import sampling as trajectories
from diffae.diffusion import solvers
from diffae.diffusion.process import Scales
from diffae.diffusion.schedules import alpha_bar_of
from diffae.errors import ConfigError, DataError, require
from diffae.latent.codes import Code
from diffae.latent.prior import PRIOR, LatentPrior
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.presets import PRIOR_STEPS


class DiffusionAutoencoder:
    """A trained model: encodes images, decodes codes, and everything between (paper Section 3).

    Make one with `from_pretrained`, `from_official`, or, untrained, from a `ModelConfig`.
    """

    def __init__(self, config: ModelConfig, networks: AutoencoderNetworks | None = None) -> None:
        self.config = config
        self.networks = (networks if networks is not None else AutoencoderNetworks(config.network)).eval()
        self.alpha_bar = alpha_bar_of(config.diffusion)
        self.folder: Path | None = None

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
        folder = checkpoint.locate(source)
        model = cls(checkpoint.read_model_config(folder))
        weights, _ = checkpoint.read_tensors(folder / checkpoint.WEIGHTS)
        checkpoint.load_weights(model.networks, weights, folder / checkpoint.WEIGHTS)
        model.folder = folder
        return model.to(device if device is not None else default_device())

    @classmethod
    def from_official(
        cls,
        path: str | Path,
        num_heads: int | None = None,
        image_size: int | None = None,
        device: str | torch.device | None = None,
        *,
        latent: str | Path | None = None,
        stats: str | Path | None = None,
        **facts: Any,
    ) -> DiffusionAutoencoder:
        """Read a checkpoint published by the paper's authors, and its latent net if it has one; no pickled code is run.

        Args:
            path: the Lightning checkpoint, `last.ckpt`.
            num_heads: attention heads, which shapes cannot tell: what the checkpoint's settings say, else 1.
            image_size: pixels; by default read from the checkpoint's `x_T` buffer.
            device: as for `from_pretrained`.
            latent, stats: see `diffae.compat.original.reading.read`.
            facts: others of `diffae.compat.original.architecture.Facts`.

        Raises:
            CheckpointError: not such a checkpoint, tensors missing or of unknown names, or an unknown image size.
        """
        published = read(path, Facts(num_heads, image_size, **facts), latent, stats)
        model = cls(published.config)
        checkpoint.load_weights(model.networks, published.weights, Path(path))
        if published.prior is not None:
            model.prior = published.prior
        return model.to(device if device is not None else default_device())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors, all that `from_pretrained` needs, and the prior if there is one."""
        checkpoint.write_config(Path(folder), self.config)
        checkpoint.write_tensors(Path(folder) / checkpoint.WEIGHTS, self.networks.state_dict(), {})
        if self.prior is not None:
            self.prior.save(folder, self.fingerprint())

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model to the Hugging Face Hub as "owner/name"; returns its address there."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return checkpoint.upload(Path(folder), repo_id, private=private, token=token)

    def to(self, device: str | torch.device) -> DiffusionAutoencoder:
        """Move the networks, and lay them out channels-last, in which they decode and encode faster; returns self."""
        self.networks.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return self

    @cached_property
    def prior(self) -> LatentPrior | None:
        """The latent prior in the folder that this model was read from, read when it is first asked for; or assigned.

        Raises:
            CheckpointError: it is damaged, or the prior of another model.
        """
        if self.folder is None or not (self.folder / PRIOR).exists():
            return None
        return LatentPrior.load(self.folder, self.fingerprint())

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return next(self.networks.parameters()).dtype

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, size, size) of the images this model was made for."""
        network = self.config.network
        return network.image_channels, network.image_size, network.image_size

    def fingerprint(self) -> str:
        """A short hash of settings and weights: codes carry it, so that they are not decoded by another model."""
        return checkpoint.fingerprint(self.config, self.networks.state_dict())

    # ------------------------------------------------------------------ the network

    def predict_noise(
        self, x_t: Float[Tensor, "b c h w"], t: int | Int[Tensor, " b"], z_sem: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """eps_hat(x_t, t, z_sem): the noise in x_t at level t, 1..T (a number for the whole batch, or (b,)).

        Computed in the type of the networks' weights, put out in that of x_t.

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
        output = self.networks.unet(x_t.to(self.dtype), time, z_sem).to(x_t.dtype).contiguous()  # solvers' layout
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
        with trajectories.ieee_float32():
            return torch.cat([encoder(x_0[rows]) for rows in parts(len(x_0))])

    @torch.no_grad()
    def encode(
        self, images: Any, sampling: Sampling | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Code:
        """(z_sem, x_T) of images: what `decode`, with the same sampling, turns back into them.

        Args:
            images: as for `encode_semantic`.
            sampling: steps, grid and inversion; exact inversion by default.
            progress: called with the number of images done so far.

        Raises:
            ConfigError: settings that decode but cannot encode, or more steps than levels.
            DataError: the images cannot be used (says which and why).
        """
        sampling = sampling or Sampling()
        trajectories.require_inverse(sampling)
        x_0, model = self._batch(images), self._in(sampling.precision)
        codes = []
        for rows in parts(len(x_0)):
            with torch.inference_mode(), trajectories.ieee_float32():
                codes.append(model._encode_part(x_0[rows], sampling))
            if progress:
                progress(min(rows.stop, len(x_0)))
        return Code.join(codes)

    def _encode_part(self, x_0: Tensor, sampling: Sampling) -> Code:
        encoder = self.networks.encoder
        z_sem = None if encoder is None else encoder(x_0.to(self.dtype))

        def predict(x: Tensor, t: int, rows: Tensor) -> Tensor:
            return self.predict_noise(x, t, None if z_sem is None else z_sem[rows])

        x_0 = x_0.double() if self.dtype == torch.float64 else x_0
        found = trajectories.encode(predict, x_0, self.alpha_bar, sampling)
        z_sem = None if z_sem is None else z_sem.to(x_0.dtype)
        return Code(z_sem, found.x_T, found.residual, found.calls, found.x_below)

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
            code: both codes at once, with the second state of the pair mode where there is one; or else
            z_sem: semantic codes (b, d), and
            x_T: stochastic codes; drawn from N(0, I) with `generator` where absent.
            sampling: steps, grid and clipping; those the code was made with, to return to the image.
            generator: source of random x_T, on the CPU.
            watch: called with (t, x0_hat before clipping) at every step (paper Fig. 6), for each 64 images in turn.

        Raises:
            DataError: codes of the wrong shape, not finite, or made with another mode of inversion.
            ConfigError: more steps than levels.
        """
        sampling = sampling or Sampling()
        code = code if code is not None else Code(z_sem, x_T)
        code = code.complete(self.config.network, generator).to(self.device)
        model = self._in(sampling.precision)
        with torch.inference_mode():
            decoded = [model._decode_part(code[rows], sampling, watch) for rows in parts(len(code))]
        return torch.cat(decoded)  # out here, so that it is an ordinary tensor, which others may learn from

    def _decode_part(self, code: Code, sampling: Sampling, watch: solvers.Watch | None) -> Tensor:
        z_sem = None if code.z_sem is None else code.z_sem.to(self.dtype)
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        assert code.x_T is not None
        x_T, x_below = code.x_T.to(dtype), None if code.x_below is None else code.x_below.to(dtype)

        def predict(x: Tensor, t: int) -> Tensor:
            return self.predict_noise(x, t, z_sem)

        return trajectories.decode(predict, x_T, x_below, self.alpha_bar, sampling, watch).float()

    def interpolate(
        self, a: Code, b: Code, frames: int, sampling: Sampling | None = None
    ) -> Float[Tensor, "frames c h w"]:
        """Images on the way from code a to code b (one image each): lerp on z_sem, slerp on x_T (Section 5.2).

        Raises:
            ConfigError: fewer than 2 frames.
            DataError: codes of more than one image, or without x_T.
        """
        return self.decode(Code.between(a, b, frames), sampling=sampling)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        sampling: Sampling | None = None,
        prior_steps: int = PRIOR_STEPS,
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "count c h w"]:
        """New images (Section 4): z_sem from the latent prior, x_T ~ N(0, I), decoded.

        A model without an encoder, the paper's DDIM baseline, decodes x_T alone and needs no prior.

        Args:
            count: how many.
            sampling: steps, grid and clipping of the decoder.
            prior_steps, truncation: see `LatentPrior.sample`.
            generator: source of z_T and x_T, on the CPU.

        Raises:
            ConfigError: no prior yet, or a value that is not allowed.
        """
        require(count >= 1, "count", count, "must be at least 1")
        z_sem = None
        if self.config.network.has_encoder:
            prior = self.require_prior()
            z_sem = prior.sample(count, steps=prior_steps, truncation=truncation, generator=generator)
        x_T = torch.randn((count, *self.image_shape), generator=generator)
        return self.decode(z_sem=z_sem, x_T=x_T, sampling=sampling)

    def require_prior(self) -> LatentPrior:
        """The prior, on this model's device; `ConfigError` where there is none."""
        if self.prior is None:
            raise ConfigError("this model has no latent prior to sample from: make one with `diffae train-prior`")
        return self.prior.to(self.device)

    # ------------------------------------------------------------------ helpers

    def _batch(self, images: Any) -> Tensor:
        channels, size, _ = self.image_shape
        given = self.config.input
        settings = {"crop": given.crop, "background": given.background, "window": given.window}
        return as_batch(images, size, channels, **settings).to(self.device)

    def _in(self, precision: Arithmetic) -> DiffusionAutoencoder:
        """This model with networks that compute in that precision: itself in its own, or a copy."""
        dtype = getattr(torch, precision)
        if dtype == self.dtype:
            return self
        return DiffusionAutoencoder(self.config, copy.deepcopy(self.networks).to(dtype))
