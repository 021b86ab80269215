"""`diffae attributes fit` and `show`: directions of z_sem from labels, and the table of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diffae.cli import models
from diffae.cli.options import RunArgument, TrainingImages
from diffae.cli.terminal import counted, print_table, say, warn
from diffae.console import progress
from diffae.errors import CheckpointError, DataError

if TYPE_CHECKING:
    import numpy as np

    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack
    from diffae.latent.attribute_labels import Target
    from diffae.latent.attributes import AttributeDirections
    from diffae.latent.probes import Score

_HEADINGS = ("attribute", "kind", "images", "with it", "held out", "on these", "95 %")


@dataclass(frozen=True)
class FitAttributes:
    """Learn directions of z_sem from labels.

    Labels are 0/1, numbers or classes. `diffae edit` moves along the directions.
    """

    model: RunArgument
    labels: Path
    """A .csv with a column of file names, or CelebA's text file; every other column is an attribute."""
    images: TrainingImages = None

    def run(self) -> int:
        """Fit, store, and print the table."""
        from diffae.data.labels import LabelTable
        from diffae.latent.attributes import ATTRIBUTES, AttributeDirections

        folder = Path(self.model)
        if not folder.is_dir():
            raise CheckpointError(f"{folder} is not a folder: attributes are stored in a run folder; name one")
        table = LabelTable.read(self.labels)
        model = models.open_model(self.model, z_sem_for="to find attributes in; train one without --no-encoder")
        pack = models.training_pack(model, self.images)
        wanted = _usable(table, pack, self.labels)
        labelled = _labelled(wanted)
        z_sem = models.z_sem_of(model, pack, labelled, folder)
        with progress("fitting", len(wanted), "attributes") as done:
            found = AttributeDirections().fit(z_sem, [one.of(labelled) for one in wanted], progress=done)
        found.save(self.model, model.fingerprint())
        print_attributes(found)
        what = f"{counted(len(wanted), 'attribute')}, from {counted(len(labelled))}"
        say(f"{what}, written to {folder / ATTRIBUTES}.")
        return 0


@dataclass(frozen=True)
class ShowAttributes:
    """List the attributes of a run, with held-out scores."""

    model: Annotated[Path, Positional, arg(metavar="RUN")]
    """Run folder, after `diffae attributes fit`."""

    def run(self) -> int:
        """Print the table."""
        from diffae.latent.attributes import AttributeDirections

        print_attributes(AttributeDirections.load(self.model))
        return 0


def _usable(table: LabelTable, pack: Pack, path: Path) -> list[Target]:
    """Columns that can be fitted; warns of labels and columns that cannot be used.

    Raises:
        DataError: no column can.
    """
    from diffae.latent.attribute_labels import split_columns

    others = table.strangers(pack.names)
    wanted = split_columns(table.for_images(pack.names))
    problems = [problem for one in wanted if (problem := one.problem())]
    if len(problems) == len(wanted):
        raise DataError(f"labels {path}: {problems[0] if problems else 'have no column; add one'}")
    if others:
        named = f"{len(others)} of {len(table)} labels name files that are not among the {counted(len(pack))}"
        warn(f"left out: {named}, such as {others[0]}")
    for problem in problems:
        warn(f"left out: {problem}")
    return [one for one in wanted if one.problem() is None]


def _labelled(wanted: list[Target]) -> np.ndarray:
    """Images with at least one known label."""
    import numpy as np

    return np.flatnonzero(np.any([~np.isnan(one.values) for one in wanted], axis=0))


def print_attributes(found: AttributeDirections) -> None:
    """Print the table of attributes."""
    rows = []
    for name, about in found.attributes_.items():
        positives = "–" if about.positives is None else f"{about.positives:,}"
        rows.append((name, about.kind, f"{about.n:,}", positives, f"{about.score.held_out:,}", *described(about.score)))
    print_table(_HEADINGS, rows, left=2)


def described(score: Score) -> tuple[str, str]:
    """A score and its 95 % interval as text; dashes where unknown, as for imported attributes."""
    if not score.held_out:
        return "–", "–"
    measure = "R²" if score.measure == "R2" else score.measure
    return f"{measure} {score.value:.3f}", f"{score.low:.3f}–{score.high:.3f}"
