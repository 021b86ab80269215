"""`diffae directions`: what z_sem holds, without labels: strips along its main directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from diffae.cli.attributes import codes_of
from diffae.cli.common import (
    RunArgument,
    SamplingOptions,
    keep_inputs,
    open_model,
    progress,
    read_images,
    say,
    tell_residuals,
    training_pack,
)
from diffae.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import numpy as np

    from diffae.config import Sampling
    from diffae.latent.codes import Code
    from diffae.latent.directions import Directions
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Tile

_STEPS = (-3, -2, -1, 0, 1, 2, 3)  # standard deviations
_LOOKED_AT = 4  # images whose decoded change is measured
_FITTED = 20_000  # images are enough for the principal directions


@dataclass(frozen=True)
class ShowDirections:
    """Directions of z_sem without labels, as strips: where images vary most, and what the decoder shows most."""

    model: RunArgument
    pca: int = 10
    """Directions of each of the two kinds."""
    out: Annotated[Path | None, arg(help_behavior_hint="(default: RUN/directions.png)")] = None
    """Picture to write."""
    image: Annotated[Path | None, arg(help_behavior_hint="(default: the first of the training)")] = None
    """Image file that is moved along the directions."""
    images: Annotated[Path | None, arg(help_behavior_hint="(default: those of the run's training)")] = None
    """Images whose z_sem are looked at: a folder, .zip, .npy, .npz or .pack."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the strips."""
        from diffae.data.images import to_tensor
        from diffae.latent.directions import SPANNED, most_visible, principal_directions
        from diffae.plotting import STILL, check_suffix, save_sheet, sheet

        folder = Path(self.model)
        out = self.out or folder / "directions.png"
        check_suffix(out, STILL)
        keep_inputs([out], [self.image] if self.image else [])
        sampling = self.sampling.sampling()
        if not folder.is_dir():
            raise CheckpointError(f"{folder} is not a folder: z_sem is kept in the run folder; name one")
        model = open_model(self.model)
        if not model.config.network.has_encoder:
            raise ConfigError("z_sem_channels is 0: this model has no z_sem; train one without --no-encoder")
        pack = training_pack(model, self.images)
        z_sem = codes_of(model, pack, _spread(len(pack), _FITTED), folder)
        principal = principal_directions(z_sem, self.pca)
        within = principal_directions(z_sem, min(max(self.pca, SPANNED), len(z_sem) - 1, z_sem.shape[1]))
        x = to_tensor(pack.fetch(_spread(len(pack), _LOOKED_AT)))
        with progress("decoding", len(x)) as done:
            visible = most_visible(model, model.encode(x, sampling), within, sampling, done)[: self.pca]
        moved = read_images([self.image], model) if self.image else x[:1]
        code = model.encode(moved, sampling)
        tell_residuals(code.residual, sampling)
        kinds = {"PCA": principal, "seen": visible}
        save_sheet(
            out, sheet([row for name, found in kinds.items() for row in _strips(model, code, found, name, sampling)])
        )
        say(
            f"{self.pca} principal and {len(visible)} most visible directions of z_sem, each a strip, written to {out}."
        )
        return 0


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many of `count` rows, evenly apart."""
    import numpy as np

    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def _strips(
    model: DiffusionAutoencoder, code: Code, found: Directions, name: str, sampling: Sampling
) -> list[list[Tile]]:
    """One image moved along each direction, by standard deviations of the images."""
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
