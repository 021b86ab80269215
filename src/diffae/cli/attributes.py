"""`diffae fit-attributes` and `diffae attributes`: directions of z_sem from labels, and the table of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diffae.cli.common import RunArgument, images, open_model, progress, say, training_pack, warn
from diffae.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack
    from diffae.latent.attribute_labels import Wanted
    from diffae.latent.attributes import AttributeDirections
    from diffae.latent.probes import Score
    from diffae.model import DiffusionAutoencoder

CACHE = "cache"
"""Folder in a run for what can be made again, z_sem of its training images for instance."""


@dataclass(frozen=True)
class FitAttributes:
    """Learn directions of z_sem from labels: 0/1, numbers, or classes. Then `diffae edit` moves along them."""

    model: RunArgument
    labels: Path
    """A .csv with a column of file names, or CelebA's text file; every other column is an attribute."""
    images: Annotated[Path | None, arg(help_behavior_hint="(default: those of the run's training)")] = None
    """The labelled images: a folder, .zip, .npy, .npz or .pack."""

    def run(self) -> int:
        """Fit, store, and print the table."""
        from diffae.data.labels import LabelTable
        from diffae.latent.attributes import ATTRIBUTES, AttributeDirections

        if not Path(self.model).is_dir():
            raise CheckpointError(f"{self.model} is not a folder: attributes are stored in a run folder; name one")
        table = LabelTable.read(self.labels)
        model = open_model(self.model)
        if not model.config.network.has_encoder:
            raise ConfigError("z_sem_channels is 0: this model has no z_sem, which attributes are read from")
        pack = training_pack(model, self.images)
        wanted = _usable(table, pack, self.labels)
        labelled = _labelled(wanted)
        z_sem = codes_of(model, pack, labelled, Path(self.model))
        with progress("fitting", len(wanted), "attributes") as done:
            found = AttributeDirections().fit(z_sem, [one.of(labelled) for one in wanted], progress=done)
        found.save(self.model, model.fingerprint())
        print_attributes(found)
        what = f"{len(wanted)} attribute{'' if len(wanted) == 1 else 's'}, from {images(len(labelled))}"
        say(f"{what}, written to {Path(self.model) / ATTRIBUTES}.")
        return 0


@dataclass(frozen=True)
class Attributes:
    """Show the attributes of a run, and how well each is read from z_sem of images held out."""

    model: Annotated[Path, Positional, arg(metavar="RUN")]
    """Run folder, after `diffae fit-attributes`."""

    def run(self) -> int:
        """Print the table."""
        from diffae.latent.attributes import AttributeDirections

        print_attributes(AttributeDirections.load(self.model))
        return 0


def codes_of(model: DiffusionAutoencoder, pack: Pack, rows: np.ndarray, folder: Path) -> np.ndarray:
    """z_sem of these rows of a pack, from the run's cache where they have been encoded before."""
    from diffae.data.feature_cache import encode_pack

    with progress("encoding", len(rows)) as done:
        return encode_pack(model, pack, rows, folder / CACHE, done)


def _usable(table: LabelTable, pack: Pack, path: Path) -> list[Wanted]:
    """What can be fitted; a warning tells of labels and columns that cannot be used.

    Raises:
        DataError: nothing can.
    """
    from diffae.latent.attribute_labels import split_columns

    others = table.strangers(pack.names)
    wanted = split_columns(table.for_images(pack.names))
    problems = [problem for one in wanted if (problem := one.problem())]
    if len(problems) == len(wanted):
        raise DataError(f"labels {path}: {problems[0] if problems else 'have no column; add one'}")
    if others:
        named = f"{len(others)} of {len(table)} labels name files that are not among the {images(len(pack))}"
        warn(f"left out: {named}, such as {others[0]}")
    for problem in problems:
        warn(f"left out: {problem}")
    return [one for one in wanted if one.problem() is None]


def _labelled(wanted: list[Wanted]) -> np.ndarray:
    """The images of which something is known."""
    import numpy as np

    return np.flatnonzero(np.any([~np.isnan(one.values) for one in wanted], axis=0))


def print_attributes(found: AttributeDirections) -> None:
    """The table of attributes in the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("attribute", overflow="fold")
    table.add_column("kind")
    for heading in ("images", "with it", "held out", "on these", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, about in found.attributes_.items():
        positives = "–" if about.positives is None else f"{about.positives:,}"
        held_out = f"{about.score.held_out:,}"
        table.add_row(name, about.kind, f"{about.n:,}", positives, held_out, *described(about.score))
    Console(highlight=False).print(table)


def described(score: Score) -> tuple[str, str]:
    """A score in words, and its 95 % interval; dashes where it is not known, of imported attributes."""
    if not score.held_out:
        return "–", "–"
    measure = "R²" if score.measure == "R2" else score.measure
    return f"{measure} {score.value:.3f}", f"{score.low:.3f}–{score.high:.3f}"
