"""Warnings of images that are unlike those a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diffae.cli.terminal import counted, warn

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.model import DiffusionAutoencoder

_NAMED = 3


class OutsideWarning:
    """Collects the images whose z_sem lies outside the distribution of the training images, if a run knows that."""

    def __init__(self, model: DiffusionAutoencoder) -> None:
        from diffae.latent.typicality import TypicalCodes

        self._typical = TypicalCodes.load(model.folder, model.fingerprint()) if model.folder else None
        self._names: list[str] = []
        self._seen = 0

    def see(self, names: Sequence[str], z_sem: Tensor | None) -> None:
        """Look at the z_sem of further images."""
        if self._typical is not None and z_sem is not None and len(names):
            self._seen += len(names)
            outside = self._typical.outside(z_sem)
            self._names += [name for name, out in zip(names, outside, strict=True) if out]

    def tell(self) -> None:
        """Warn if more images are outside than the hundredth that is by chance."""
        if len(self._names) > max(1, 2 * self._seen // 100) or len(self._names) == self._seen > 0:
            few = ", ".join(self._names[:_NAMED]) + (", ..." if len(self._names) > _NAMED else "")
            what = f"{len(self._names):,} of {counted(self._seen)} unlike those of training ({few})"
            warn(f"{what}: x_T still brings them back, but z_sem and edits may mean little")
