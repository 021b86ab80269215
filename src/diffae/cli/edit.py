"""`diffae edit`: change attributes of an image."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from diffae.cli import common, models
from diffae.cli.explore import COLUMNS
from diffae.cli.options import ImageArgument, RunArgument, SamplingOptions, optional
from diffae.cli.terminal import print_table, say
from diffae.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.latent.attributes import AttributeDirections, Strength
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Tile

    Changes = Mapping[str, Strength]

DIFFERENCE_GAIN = 3.0
"""Difference maps show |before - after| times this, images in [0, 1]; less than error maps, as edits change more."""


@dataclass(frozen=True)
class Edit:
    """Edit an image by attributes.

    Moves z_sem and keeps x_T. The picture shows before, after and their difference, or with --sweep a strip.
    """

    model: RunArgument
    image: ImageArgument
    out: Path
    """Picture to write. Without --sweep, the edited image alone is written beside it as OUT-image, with the type, range
    and metadata of the original."""
    set: Annotated[
        UseAppendAction[tuple[str, ...]], arg(metavar="NAME=STRENGTH", help_behavior_hint="(repeatable)")
    ] = ()
    """Smiling=+0.3 is a step along the direction; Smiling=median the median of images that have it; Smiling=p=0.9 a
    probability of 0.9; for a number, the value to reach: age=60."""
    sweep: Annotated[tuple[str, float, float, int] | None, arg(metavar="NAME FROM TO COUNT"), optional] = None
    """A strip of COUNT images, with strengths (of a number: values) from FROM to TO."""
    only: Annotated[tuple[str, ...] | None, arg(metavar="[NAME ...]"), optional] = None
    """Keep the readings of these attributes unchanged, or of all others if none is named."""
    published: bool = False
    """Move along the classifier's weight vector, as published, instead of the direction in which images vary with
    it."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the picture and print the readings before and after."""
        import torch

        from diffae.data.images import metadata_of
        from diffae.latent.directions import with_z_sem
        from diffae.plotting import tiles_of

        common.check_picture(self.out, self.image)
        sampling = self.sampling.sampling()
        steps = self._steps()
        model = models.open_model(self.model)
        attributes = open_attributes(model)
        hold = self._held(attributes, steps[0])
        metadata = metadata_of(self.image)
        alone = self.out.with_name(f"{self.out.stem}-image{common.suffix_of(model, metadata)}")
        common.check_outputs([] if self.sweep else [alone], [self.image])
        x = models.read_images([self.image], model)
        z_sem = model.encode_semantic(x)
        moved = moved_codes(attributes, z_sem, steps, hold=hold, published=self.published)
        code = model.encode(x, sampling)
        y = model.decode(with_z_sem(code, moved), sampling=sampling).cpu()
        after = tiles_of(y, [_caption(attributes, changes) for changes in steps])
        difference = [] if self.sweep else [_difference(x, y)]
        common.write_sheet(self.out, [*tiles_of(x, "before"), *after, *difference], COLUMNS)
        if not self.sweep:
            common.write_image(alone, y, model, metadata)
        common.warn_residuals(code.residual, sampling)
        _print_readings(attributes, torch.cat([z_sem, moved]), [*steps[0], *hold])
        say(f"{self.image.name}, edited, written to {self.out}{'' if self.sweep else f'; alone to {alone}'}.")
        return 0

    def _steps(self) -> list[Changes]:
        """The changes for each picture.

        Raises:
            ConfigError: no change, or not NAME=STRENGTH.
        """
        fixed = dict(_split(text) for text in self.set)
        if self.sweep is None:
            if not fixed:
                raise ConfigError("set is empty: say what to change, for instance --set Smiling=+0.3")
            return [fixed]
        name, start, stop, count = self.sweep
        if count < 2:
            raise ConfigError(f"sweep has {count} image{'' if count == 1 else 's'}: must be at least 2, the two ends")
        if not (math.isfinite(start) and math.isfinite(stop)):
            raise ConfigError(f"sweep is from {start} to {stop}: must be finite, for instance -0.5 0.5")
        if name in fixed:
            raise ConfigError(f"attribute {name!r} is in both --set and --sweep; drop one of the two")
        return [fixed | {name: start + (stop - start) * index / (count - 1)} for index in range(count)]

    def _held(self, attributes: AttributeDirections, changes: Changes) -> tuple[str, ...]:
        """The attributes that --only keeps."""
        if self.only is None or self.only:
            return self.only or ()
        for name in changes:
            attributes.index(name)  # raises for an unknown name
        others = attributes.others(changes)
        if not others:
            raise ConfigError("only is given, but no other attribute is known: drop it, or fit more attributes")
        return others


def open_attributes(model: DiffusionAutoencoder) -> AttributeDirections:
    """The attributes in the folder that a model was read from.

    Raises:
        CheckpointError: there are none, or they belong to another model.
    """
    from diffae.latent.attributes import AttributeDirections

    if model.folder is None:
        raise CheckpointError("this model was not read from a run folder: it has no attributes; fit some")
    return AttributeDirections.load(model.folder, model.fingerprint())


def moved_codes(
    attributes: AttributeDirections,
    z_sem: Tensor,
    steps: Sequence[Changes],
    *,
    hold: Collection[str] = (),
    published: bool = False,
) -> Tensor:
    """The z_sem of one image, (1, d), after each of several edits: (edits, d)."""
    import torch

    from diffae.latent.codes import Code

    codes = (attributes.edit_all(Code(z_sem), changes, hold=hold, published=published) for changes in steps)
    return torch.cat([code.z_sem for code in codes if code.z_sem is not None])


def _difference(x: Tensor, y: Tensor) -> Tile:
    """The difference map of an image (1, c, h, w) before and after."""
    from diffae.data.images import to_unit
    from diffae.plotting import heat_tile

    change = (to_unit(x) - to_unit(y)).abs().mean(dim=(0, 1))
    return heat_tile(change * DIFFERENCE_GAIN, f"difference ×{DIFFERENCE_GAIN:g}")


def _split(text: str) -> tuple[str, Strength]:
    """Split NAME=STRENGTH; the strength may be p=0.9."""
    name, equals, strength = text.rpartition("=")
    if name.endswith("=p"):
        name, strength = name.removesuffix("=p"), f"p={strength}"
    if not equals or not name:
        raise ConfigError(f"set is {text!r}: must be NAME=STRENGTH, for instance Smiling=+0.3 or Young=median")
    return name, strength


def _caption(attributes: AttributeDirections, changes: Changes) -> str:
    """The changes, a line for each attribute."""

    def worded(name: str, strength: Strength) -> str:
        if isinstance(strength, str):
            return strength
        return f"{strength:.3g}" if attributes.kinds_[name] == "number" else f"{strength:+.2f}"

    return "\n".join(f"{name} {worded(name, strength)}" for name, strength in changes.items())


def _print_readings(attributes: AttributeDirections, z_sem: Tensor, names: Sequence[str]) -> None:
    """Print the attributes' readings in z_sem before and after, for a sweep at both ends."""
    from scipy.special import expit

    shown = {"before": 0, "after": 1} if len(z_sem) == 2 else {"before": 0, "first": 1, "last": len(z_sem) - 1}
    readings, rows = attributes.read(z_sem), []
    for name in names:
        column, binary = attributes.index(name), attributes.attributes_[name].binary
        values = [readings[row, column] for row in shown.values()]
        rows.append((name, *(f"{expit(value):.1%}" if binary else f"{value:.4g}" for value in values)))
    print_table(("read from z_sem", *shown), rows)
