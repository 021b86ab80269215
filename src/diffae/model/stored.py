"""A diffusion autoencoder on disk: run folders, the Hugging Face Hub, the authors' checkpoints."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from diffae import checkpoint, hub
from diffae.checkpoint import Fingerprint
from diffae.compat.original.architecture import Facts
from diffae.compat.original.reading import read
from diffae.devices import default_device
from diffae.latent.prior import PRIOR, LatentPrior
from diffae.model.module import DiffusionModule, refuse_misfit
from diffae.model.student import STUDENT, Student

if TYPE_CHECKING:
    from diffae.model.autoencoder import DiffusionAutoencoder

Model = TypeVar("Model", bound="StoredModule")


class StoredModule(DiffusionModule):
    """A `DiffusionModule` that is loaded from a folder and saved to one."""

    folder: Path | None = None
    """The folder it was loaded from."""

    @classmethod
    def from_pretrained(
        cls: type[Model],
        source: str | Path,
        device: str | torch.device | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        trust_code: bool = False,
        **from_hub: Any,
    ) -> Model:
        """Load a run folder, or a repository of the Hugging Face Hub ("owner/name").

        Args:
            source: the folder or the Hub id.
            device: where to put the networks; by default a GPU if there is one, else the CPU.
            dtype: what the networks compute in.
            trust_code: import parts from outside this package, which config.json names by their import path.
            from_hub: of a Hub id: revision, token, cache_dir, local_files_only and subfolder.

        Raises:
            CheckpointError: nothing there, damaged files, weights of another configuration, or parts from outside
                without `trust_code`.
        """
        folder = hub.locate(source, **from_hub)
        config = checkpoint.read_model_config(folder, trust_code=trust_code)
        weights, _ = checkpoint.read_tensors(folder / checkpoint.WEIGHTS)
        refuse_misfit(config, weights, folder / checkpoint.WEIGHTS)
        model = cls(config)
        checkpoint.load_weights(model, weights, folder / checkpoint.WEIGHTS)
        model.folder = folder
        return model.to(device if device is not None else default_device(), dtype)

    @classmethod
    def from_official(
        cls: type[Model],
        path: str | Path,
        num_heads: int | None = None,
        image_size: int | None = None,
        device: str | torch.device | None = None,
        *,
        latent: str | Path | None = None,
        stats: str | Path | None = None,
        **facts: Any,
    ) -> Model:
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
        """Write what `from_pretrained` needs: config.json, model.safetensors, and prior and student if there are.

        The attributes in the folder it was loaded from go along.
        """
        checkpoint.write_config(Path(folder), self.config)
        checkpoint.write_tensors(Path(folder) / checkpoint.WEIGHTS, checkpoint.own_state(self), {})
        if self.prior is not None:
            self.prior.save(folder, self.fingerprint())
        if self.student is not None:
            self.student.save(folder, cast("DiffusionAutoencoder", self))
        from diffae.latent.attributes import ATTRIBUTES  # scikit-learn is slow to import

        if self.folder is not None and self.folder != Path(folder) and (self.folder / ATTRIBUTES).is_file():
            checkpoint.copy_file(self.folder / ATTRIBUTES, Path(folder) / ATTRIBUTES)

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

    @cached_property
    def student(self) -> Student | None:
        """The student of the decoder, found as `prior` is; `CheckpointError` for that of another model."""
        if self.folder is None or not (self.folder / STUDENT).exists():
            return None
        return Student.load(self.folder, cast("DiffusionAutoencoder", self), self.fingerprint())

    def fingerprint(self) -> Fingerprint:
        """A short hash of settings and weights; codes carry it, so that another model refuses to decode them."""
        return Fingerprint(self.config, checkpoint.own_state(self))
