"""`diffae directions`: unsupervised directions of z_sem, as strips of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from diffae.cli import common, models
from diffae.cli.options import RunArgument, SamplingOptions, TrainingImages
from diffae.cli.terminal import say
from diffae.console import progress
from diffae.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np

    from diffae.config import Sampling
    from diffae.latent.codes import Code
    from diffae.latent.directions import Directions
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Tile

_STEPS = (-3, -2, -1, 0, 1, 2, 3)  # standard deviations
_DECODED = 4  # images whose decoded change is measured
_FITTED = 20_000  # images are enough for the principal directions


@dataclass(frozen=True)
class ShowDirections:
    """Show unsupervised directions of z_sem.

    Two kinds: those of largest variance (PCA), and those that change the decoded image most.
    """

    model: RunArgument
    pca: int = 10
    """Number of directions of each kind."""
    out: Annotated[Path | None, arg(help_behavior_hint="(default: RUN/directions.png)")] = None
    """Picture to write."""
    image: Annotated[Path | None, arg(help_behavior_hint="(default: the first training image)")] = None
    """Image file to move along the directions."""
    images: TrainingImages = None
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the strips."""
        from diffae.data.images import to_tensor
        from diffae.latent.directions import SPANNED, most_visible, principal_directions
        from diffae.plotting import save_sheet, sheet

        folder = Path(self.model)
        out = self.out or folder / "directions.png"
        common.check_picture(out, *([self.image] if self.image else []))
        sampling = self.sampling.sampling()
        if not folder.is_dir():
            raise CheckpointError(f"{folder} is not a folder: z_sem is kept in the run folder; name one")
        model = models.open_model(self.model, z_sem_for="to find directions in; train one without --no-encoder")
        pack = models.training_pack(model, self.images)
        z_sem = models.z_sem_of(model, pack, _spread(len(pack), _FITTED), folder)
        principal = principal_directions(z_sem, self.pca)
        within = principal_directions(z_sem, min(max(self.pca, SPANNED), len(z_sem) - 1, z_sem.shape[1]))
        x = to_tensor(pack.fetch(_spread(len(pack), _DECODED)))
        with progress("decoding", len(x)) as done:
            visible = most_visible(model, model.encode(x, sampling), within, sampling, done)[: self.pca]
        code = model.encode(models.read_images([self.image], model) if self.image else x[:1], sampling)
        common.warn_residuals(code.residual, sampling)
        kinds = {"PCA": principal, "seen": visible}
        rows = [row for name, found in kinds.items() for row in _strips(model, code, found, name, sampling)]
        save_sheet(out, sheet(rows))
        what = f"{self.pca} principal and {len(visible)} most visible directions of z_sem"
        say(f"{what}, each a strip, written to {out}.")
        return 0


def _spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` rows, evenly spaced."""
    import numpy as np

    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def _strips(
    model: DiffusionAutoencoder, code: Code, found: Directions, name: str, sampling: Sampling
) -> list[list[Tile]]:
    """An image moved along each direction, in steps of standard deviations."""
    import torch

    from diffae.latent.directions import with_z_sem
    from diffae.plotting import tiles_of

    assert code.z_sem is not None
    far = torch.tensor(_STEPS).to(code.z_sem)[:, None]
    strips = []
    with progress("decoding", len(found), "directions") as done:
        for row, vector in enumerate(found.vectors, 1):
            moved = with_z_sem(code, code.z_sem + far * torch.from_numpy(vector).to(far))
            captions = [f"{step:+d} sd" if step else f"{name} {row}: {found.shares[row - 1]:.1%}" for step in _STEPS]
            strips.append(tiles_of(model.decode(moved, sampling=sampling).cpu(), captions))
            done(row)
    return strips
