"""The diffusion autoencoder: images <-> (z_sem, x_T).

Shapes: b images of c channels and size x size pixels, d = z_sem's size. Images as tensors are float32 in [-1, 1].
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffae import checkpoint, hub
from diffae.checkpoint import Fingerprint
from diffae.compat.original.architecture import Facts
from diffae.compat.original.reading import read
from diffae.config import PRIOR_STEPS, Sampling
from diffae.data.images import as_batch
from diffae.deprecation import renamed
from diffae.diffusion import sampling as trajectories
from diffae.diffusion import solvers
from diffae.errors import ConfigError, require
from diffae.latent.codes import Code
from diffae.latent.prior import PRIOR, LatentPrior
from diffae.model.module import DiffusionModule, default_device, refuse_misfit
from diffae.model.runtime import Runtime
from diffae.model.student import STUDENT, Student
from diffae.workers import each

BATCH = 64
"""Images that go through the networks at once; larger batches are split, which bounds memory."""


def parts(count: int) -> Iterator[slice]:
    """Slices of at most BATCH images; one empty slice for none."""
    return (slice(start, start + BATCH) for start in range(0, max(count, 1), BATCH))


class DiffusionAutoencoder(DiffusionModule):
    """Encodes images to (z_sem, x_T), decodes codes, and samples (paper Section 3).

    Load one with `from_pretrained` or `from_official`, or build an untrained one from a `ModelConfig`.
    """

    folder: Path | None = None
    """The folder it was loaded from."""

    # ------------------------------------------------------------------ on disk

    @classmethod
    def from_pretrained(
        cls, source: str | Path, device: str | torch.device | None = None, *, trust_code: bool = False
    ) -> DiffusionAutoencoder:
        """Load a run folder, or a repository of the Hugging Face Hub ("owner/name").

        Args:
            source: the folder or the Hub id.
            device: where to put the networks; by default a GPU if there is one, else the CPU.
            trust_code: import parts from outside this package, which config.json names by their import path.

        Raises:
            CheckpointError: nothing there, damaged files, weights of another configuration, or parts from outside
                without `trust_code`.
        """
        folder = hub.locate(source)
        config = checkpoint.read_model_config(folder, trust_code=trust_code)
        weights, _ = checkpoint.read_tensors(folder / checkpoint.WEIGHTS)
        refuse_misfit(config, weights, folder / checkpoint.WEIGHTS)
        model = cls(config)
        checkpoint.load_weights(model, weights, folder / checkpoint.WEIGHTS)
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
        """Load a checkpoint published by the paper's authors, with its latent net if it has one; runs no pickled code.

        Args:
            path: the Lightning checkpoint, `last.ckpt`.
            num_heads: attention heads, which shapes do not reveal; by default from the checkpoint's settings, else 1.
            image_size: pixels; by default read from the checkpoint's `x_T` buffer.
            device: as for `from_pretrained`.
            latent, stats: see `diffae.compat.original.reading.read`.
            facts: other fields of `diffae.compat.original.architecture.Facts`.

        Raises:
            CheckpointError: not such a checkpoint, tensors missing or of unknown names, or an unknown image size.
        """
        published = read(path, Facts(num_heads, image_size, **facts), latent, stats)
        model = cls(published.config)
        checkpoint.load_weights(model, published.weights, Path(path))
        if published.prior is not None:
            model.prior = published.prior
        return model.to(device if device is not None else default_device())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what `from_pretrained` needs: config.json, model.safetensors, and prior and student if there are."""
        checkpoint.write_config(Path(folder), self.config)
        checkpoint.write_tensors(Path(folder) / checkpoint.WEIGHTS, checkpoint.own_state(self), {})
        if self.prior is not None:
            self.prior.save(folder, self.fingerprint())
        if self.student is not None:
            self.student.save(folder, self.fingerprint())

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model to the Hugging Face Hub as "owner/name"; returns its address there."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.upload(Path(folder), repo_id, private=private, token=token)

    @cached_property
    def prior(self) -> LatentPrior | None:
        """The latent prior: loaded on first use from the folder this model was loaded from, or assigned.

        Raises:
            CheckpointError: it is damaged, or the prior of another model.
        """
        if self.folder is None or not (self.folder / PRIOR).exists():
            return None
        return LatentPrior.load(self.folder, self.fingerprint())

    def fingerprint(self) -> Fingerprint:
        """A short hash of settings and weights; codes carry it, so that another model refuses to decode them."""
        return Fingerprint(self.config, checkpoint.own_state(self))

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
        if self.encoder is None:
            raise ConfigError("encoder is None: this model has no encoder; train one without --no-encoder")
        batch = self._batch(images)
        found = each(self, "_encode_semantic_part", (batch[rows] for rows in parts(len(batch))))
        return torch.cat([z_sem.to(self.device) for z_sem in found])

    @torch.no_grad()
    def _encode_semantic_part(self, images: Tensor) -> Tensor:
        with trajectories.ieee_float32():
            return self.call_encoder(self.seen_of(images.to(self.device)))

    @torch.no_grad()
    def encode(
        self, images: Any, sampling: Sampling | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Code:
        """(z_sem, x_T) of images; `decode` with the same sampling returns the images.

        Args:
            images: as for `encode_semantic`.
            sampling: steps, timestep spacing and inversion; exact inversion by default.
            progress: called with the number of images done so far.

        Raises:
            ConfigError: settings that decode but cannot encode, or more steps than levels.
            DataError: the images cannot be used (says which and why).
        """
        sampling = sampling or Sampling()
        trajectories.require_inverse(sampling)
        batch, codes, done = self._batch(images), list[Code](), 0
        for code in each(self, "_encode_part", (batch[rows] for rows in parts(len(batch))), sampling):
            codes.append(code.to(self.device))
            done += len(code)
            if progress:
                progress(done)
        return Code.join(codes)

    def _encode_part(self, images: Tensor, sampling: Sampling) -> Code:
        model = self._as(sampling)
        with torch.inference_mode(), trajectories.ieee_float32():
            return model._encode_batch(images.to(self.device), sampling)

    def _encode_batch(self, images: Tensor, sampling: Sampling) -> Code:
        images = images.to(self.dtype)
        x_0 = self.to_latents(images)
        z_sem = None if self.encoder is None else self.call_encoder(self.seen_of(images, x_0))
        x_0 = x_0 if self.dtype == torch.float64 else x_0.float()

        def predict(x: Tensor, t: int, rows: Tensor) -> Tensor:
            return self.predict_noise(x, t, None if z_sem is None else z_sem[rows])

        found = trajectories.encode(predict, x_0, self.alpha_bar, sampling)
        z_sem = None if z_sem is None else z_sem.to(x_0.dtype)
        return Code(z_sem, found.x_T, found.residual, found.calls, found.x_below)

    # ------------------------------------------------------------------ code -> image

    @renamed(watch="callback")
    @torch.no_grad()
    def decode(
        self,
        code: Code | None = None,
        *,
        z_sem: Float[Tensor, "b d"] | None = None,
        x_T: Float[Tensor, "b c h w"] | None = None,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
        callback: solvers.StepCallback | None = None,
    ) -> Float[Tensor, "b k H W"]:
        """Images, float32, near [-1, 1], from a `Code`, or from z_sem and x_T.

        Args:
            code: both codes together, with BDIA's second state where there is one; or
            z_sem: semantic codes (b, d), and
            x_T: stochastic codes, as the latents or the images; drawn from N(0, I) with `generator` where absent.
            sampling: steps, timestep spacing and clipping; those the code was made with, to return to the image.
            generator: source of random x_T, on the CPU.
            callback: called with (t, x0_hat before clipping) at every step (paper Fig. 6), for each 64 images in turn.

        Raises:
            DataError: codes of the wrong shape, not finite, or made with another mode of inversion.
            ConfigError: more steps than levels.
        """
        sampling = sampling or Sampling()
        code = code if code is not None else Code(z_sem, x_T)
        code = code.complete(self.config.latent_shape, self.config.z_sem_channels, generator).to(self.device)
        batches = (code[rows] for rows in parts(len(code)))
        if callback:
            decoded = (self._decode_part(batch, sampling, callback) for batch in batches)
        else:
            decoded = each(self, "_decode_part", batches, sampling)
        # outside inference mode: an ordinary tensor, which autograd accepts
        return torch.cat([images.to(self.device) for images in decoded])

    def _decode_part(
        self, code: Code, sampling: Sampling, callback: solvers.StepCallback | None = None
    ) -> Float[Tensor, "b k H W"]:
        model = self
        if sampling.solver == "student":
            student = self.require_student()
            model, sampling = student.model, student.sampling(sampling)
        model = model._as(sampling)
        with torch.inference_mode():
            return model._decode_batch(code.to(self.device), sampling, callback)

    def _decode_batch(self, code: Code, sampling: Sampling, callback: solvers.StepCallback | None) -> Tensor:
        z_sem = None if code.z_sem is None else code.z_sem.to(self.dtype)
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        assert code.x_T is not None
        x_T, x_below = code.x_T.to(dtype), None if code.x_below is None else code.x_below.to(dtype)

        def predict(x: Tensor, t: int) -> Tensor:
            return self.predict_noise(x, t, z_sem)

        x_0 = trajectories.decode(predict, x_T, x_below, self.alpha_bar, sampling, callback)
        return self.from_latents(x_0.to(self.dtype) if self.first_stage is not None else x_0).float()

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
            sampling: steps, timestep spacing and clipping of the decoder.
            prior_steps, truncation: see `LatentPrior.sample`.
            generator: source of z_T and x_T, on the CPU.

        Raises:
            ConfigError: no prior yet, or a value that is not allowed.
        """
        require(count >= 1, "count", count, "must be at least 1")
        z_sem = None
        if self.config.has_encoder:
            prior = self.require_prior()
            z_sem = prior.sample(count, steps=prior_steps, truncation=truncation, generator=generator)
        x_T = torch.randn((count, *self.config.latent_shape), generator=generator)
        return self.decode(z_sem=z_sem, x_T=x_T, sampling=sampling)

    def require_prior(self) -> LatentPrior:
        """The prior, on this model's device; `ConfigError` where there is none."""
        if self.prior is None:
            raise ConfigError("this model has no latent prior to sample from: make one with `diffae train-prior`")
        return self.prior.to(self.device)

    @cached_property
    def student(self) -> Student | None:
        """The student of the decoder, found as `prior` is; `CheckpointError` for that of another model."""
        if self.folder is None or not (self.folder / STUDENT).exists():
            return None
        return Student.load(self.folder, self, self.fingerprint())

    def require_student(self) -> Student:
        """The student, on this model's device; `ConfigError` where there is none."""
        if self.student is None:
            raise ConfigError("this model has no student to decode by: make one with `diffae distill`")
        if self.student.model.device != self.device:
            self.student.model.to(self.device)
        return self.student

    # ------------------------------------------------------------------ helpers

    def _batch(self, images: Any) -> Tensor:
        channels, size, _ = self.image_shape
        given = self.config.input
        batch = as_batch(images, size, channels, crop=given.crop, background=given.background, window=given.window)
        return batch.to(self.device)

    @cached_property
    def _runtime(self) -> Runtime[DiffusionAutoencoder]:
        return Runtime(partial(DiffusionAutoencoder, self.config))

    def _as(self, sampling: Sampling) -> DiffusionAutoencoder:
        """This model with its networks in the precision of `sampling`, and compiled if it says so."""
        dtype, backend = getattr(torch, sampling.precision), sampling.backend
        if dtype == self.dtype and backend is None:
            return self
        return self._runtime.of(self, dtype, backend)
