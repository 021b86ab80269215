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
from diffae.cli.options import ImageArgument, RunArgument, SamplingOptions, decoding, optional
from diffae.cli.outside import OutsideWarning
from diffae.cli.terminal import print_table, say, warn
from diffae.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffae.latent.attributes import AttributeDirections, Strength
    from diffae.latent.editing import Edits
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Tile

    Changes = Mapping[str, Strength]

FAST_STEPS = 2
"""Steps of the student for `--fast`."""
HARDLY = 0.004
"""Mean change of an image in [0, 1] below which an edit is invisible: one level of 256."""
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
    probability of 0.9; for a number, age=60 is the value to reach, age=+10 ten more (and value==-5 minus five)."""
    sweep: Annotated[tuple[str, float, float, int] | None, arg(metavar="NAME FROM TO COUNT"), optional] = None
    """A strip of COUNT images, with strengths (of a number: values) from FROM to TO."""
    only: Annotated[tuple[str, ...] | None, arg(metavar="[NAME ...]"), optional] = None
    """Keep the readings of these attributes unchanged, or of all others if none is named."""
    published: bool = False
    """Move along the classifier's weight vector, as published, instead of the direction in which images vary with
    it."""
    rounds: int = 5
    """Corrections of median, p= and values by what the edited image reads when it is encoded again; 0 for none."""
    fast: bool = False
    """Decode by the run's student in 2 network calls (`diffae distill`), nearly as exact; x_T is found as without."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the picture and print what was asked for and what the edited image reads."""
        from diffae.data.images import metadata_of, to_unit
        from diffae.latent.codes import Code
        from diffae.latent.editing import edit_images
        from diffae.plotting import tiles_of

        common.check_picture(self.out, self.image)
        sampling = self.sampling.sampling()
        steps = self._steps()
        model = models.open_model(self.model)
        decoded_by = decoding(FAST_STEPS if self.fast else None, sampling)
        models.require_student(model, decoded_by)
        attributes = open_attributes(model)
        hold = self._held(attributes, steps[0])
        metadata = metadata_of(self.image)
        alone = self.out.with_name(f"{self.out.stem}-image{common.suffix_of(model, metadata)}")
        common.check_outputs([] if self.sweep else [alone], [self.image])
        x = models.read_images([self.image], model)
        z_sem = model.encode_semantic(x)
        outside = OutsideWarning(model)
        outside.see([str(self.image)], z_sem)
        outside.tell()
        before = attributes.read(z_sem)[0]
        steps = [_absolute(attributes, before, changes) for changes in steps]
        for changes in steps:  # wrong names and strengths are refused before x_T is found
            attributes.edit_all(Code(z_sem), changes, hold=hold, published=self.published)
        code = model.encode(x, sampling)
        how = {"hold": hold, "published": self.published, "rounds": self.rounds, "sampling": decoded_by}
        edits = edit_images(model, attributes, code, steps, **how)
        y = edits.images.cpu()
        after = tiles_of(y, [_caption(attributes, changes) for changes in steps])
        difference = [] if self.sweep else [_difference(x, y)]
        common.write_sheet(self.out, [*tiles_of(x, "before"), *after, *difference], COLUMNS)
        if not self.sweep:
            common.write_image(alone, y, model, metadata)
        common.warn_residuals(code.residual, sampling)
        _print_readings(attributes, edits, [*steps[0], *hold])
        _warn_missed(attributes, edits, steps, (to_unit(x) - to_unit(y)).abs().mean(dim=(1, 2, 3)).tolist())
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
    """Split NAME=STRENGTH; the strength may be p=0.9, and =-5 is the value -5 where -5 would be five less."""
    name, equals, strength = text.rpartition("=")
    if name.endswith("=p"):
        name, strength = name.removesuffix("=p"), f"p={strength}"
    if not equals or not name:
        raise ConfigError(f"set is {text!r}: must be NAME=STRENGTH, for instance Smiling=+0.3 or Young=median")
    if name.endswith("=") and name[:-1]:
        return name[:-1], _float(text, strength)
    return name, strength


def _float(text: str, number: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise ConfigError(f"set is {text!r}: must be NAME==NUMBER, for instance temperature==-5") from None


def _absolute(attributes: AttributeDirections, before: np.ndarray, changes: Changes) -> Changes:
    """The changes, with values of numbers such as +10 added to what the image reads."""

    def resolved(name: str, strength: Strength) -> Strength:
        row = attributes.index(name)
        relative = isinstance(strength, str) and strength[:1] in ("+", "-")
        if attributes.attributes_[name].binary or not relative:
            return strength
        return float(before[row]) + _float(f"{name}={strength}", str(strength))

    return {name: resolved(name, strength) for name, strength in changes.items()}


def _caption(attributes: AttributeDirections, changes: Changes) -> str:
    """The changes, a line for each attribute."""

    def worded(name: str, strength: Strength) -> str:
        if isinstance(strength, str):
            return strength
        return f"{strength:.3g}" if attributes.kinds_[name] == "number" else f"{strength:+.2f}"

    return "\n".join(f"{name} {worded(name, strength)}" for name, strength in changes.items())


def _print_readings(attributes: AttributeDirections, edits: Edits, names: Sequence[str]) -> None:
    """Print the attributes' readings before, as asked for, and from the edited image; for a sweep at both ends."""
    from scipy.special import expit

    last = len(edits.asked) - 1
    columns = {"before": edits.before}
    for word, row in [("first ", 0), ("last ", last)] if last else [("", 0)]:
        columns |= {f"{word}asked": edits.asked[row], f"{word}read": edits.read[row]}
    rows = []
    for name in names:
        place, binary = attributes.index(name), attributes.attributes_[name].binary
        values = [readings[place] for readings in columns.values()]
        rows.append((name, *(f"{expit(value):.1%}" if binary else f"{value:.4g}" for value in values)))
    print_table(("attribute", *columns), rows)


def _warn_missed(
    attributes: AttributeDirections, edits: Edits, steps: Sequence[Changes], change: Sequence[float]
) -> None:
    """Warn of edits that the image does not follow: hardly changed, the wrong way, or short of the target."""
    from diffae.latent.editing import NEAR, distance

    for number, (changes, changed) in enumerate(zip(steps, change, strict=True)):
        where = f"image {number + 1} of {len(steps)}: " if len(steps) > 1 else ""
        asked, read = edits.asked[number], edits.read[number]
        if changed < HARDLY and any(attributes.goal(name, changes[name]) is not None for name in changes):
            warn(f"{where}the image hardly changed (by {changed:.2%} on average)")
        for name, strength in changes.items():
            row, goal = attributes.index(name), attributes.goal(name, strength)
            if (asked[row] - edits.before[row]) * (read[row] - edits.before[row]) < 0:
                warn(f"{where}{name} moved the wrong way in the image")
            elif goal is not None and distance(attributes, name, read, goal, edits.before) > NEAR:
                warn(f"{where}{name} did not reach its target in the image; the table has what it reads")
