"""Images that other systems made: samples, edits and reconstructions, in folders, which become rows of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from diffae.data.build import build_pack
from diffae.data.images import SUFFIXES
from diffae.data.pack import Pack
from diffae.errors import ConfigError, DataError
from diffae.evaluation.material import Images
from diffae.evaluation.results import listed
from diffae.networks.settings import Shape

LEAST = 20
"""Images of a system, for the covariance of their features."""


@dataclass(frozen=True)
class OtherSystems:
    """Images by the name of the system that made them, at the size of the model."""

    samples: Mapping[str, Pack]
    """New images."""
    edits: Mapping[str, Mapping[str, Pack]]
    """Unseen images edited to have an attribute, by its name; each is named like its original."""
    reconstructions: Mapping[str, Pack]
    """Reconstructions of unseen images, each named like its original."""


NONE = OtherSystems({}, {}, {})


def open_systems(
    samples: Sequence[str], edits: Sequence[str], reconstructions: Sequence[str], shape: Shape, cache: Path
) -> OtherSystems:
    """Read folders, each given as NAME=DIR.

    Images of another size are scaled down as those of a training are: with a model for 128 x 128, folders of 256 x 256
    are compared as in the paper.

    Args:
        samples: of new images.
        edits: with a folder for each attribute, named like it.
        reconstructions: of reconstructions of unseen images.
        shape: (channels, height, width) of the model's images.
        cache: where packs are kept.
    Raises:
        ConfigError: not NAME=DIR, or a name twice.
        DataError: no images, too few of them, or of several sizes.
    """
    channels, size, _ = shape

    def pack(folder: Path, least: int) -> Pack:
        _check_sizes(folder)
        return build_pack(folder, cache, size=size, channels=channels, at_least=least)

    edited = {
        name: {part.name: pack(part, LEAST) for part in _attributes(folder)}
        for name, folder in _named("edits", edits).items()
    }
    return OtherSystems(
        {name: pack(folder, LEAST) for name, folder in _named("samples", samples).items()},
        edited,
        {name: pack(folder, 2) for name, folder in _named("reconstructions", reconstructions).items()},
    )


def _named(option: str, given: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise ConfigError(f"{option} is {text!r}: must be NAME=DIR, for instance StyleGAN2=samples/stylegan2")
        if name in found:
            raise ConfigError(f"{option} names {name!r} twice: tables use these names; rename one")
        if not Path(folder).is_dir():
            raise DataError(f"{option} {name}: {folder} is not a folder; check the path")
        found[name] = Path(folder)
    return found


def _attributes(folder: Path) -> list[Path]:
    found = sorted(part for part in folder.iterdir() if part.is_dir() and not part.name.startswith("."))
    if not found:
        raise DataError(f"edits {folder}: must hold a folder for each attribute, named like it, with the edited images")
    return found


def _check_sizes(folder: Path) -> None:
    """Raise `DataError` if a folder's pictures differ in size: scaled, they would differ in sharpness."""
    sizes: dict[tuple[int, int], str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            try:
                with Image.open(path) as picture:
                    sizes.setdefault(picture.size, path.name)
            except OSError:
                continue  # is left out, with its reason, when the pack is built
    if len(sizes) > 1:
        (one, name), (other, second) = list(sizes.items())[:2]
        each = f"{name} has {one[0]} x {one[1]} pixels, {second} {other[0]} x {other[1]}"
        raise DataError(f"images {folder} are of several sizes: {each}; give those of one size")


def matched(pack: Pack, originals: Images) -> tuple[Images, Images]:
    """The images that are named like an original, and these originals, in the same order; suffixes do not count."""
    rows = {_stem(name): row for row, name in enumerate(pack.names)}
    stems = [_stem(originals.pack.names[int(row)]) for row in originals.rows]
    places = np.array([place for place, stem in enumerate(stems) if stem in rows], np.int64)
    found = np.array([rows[stems[place]] for place in places], np.int64)
    return Images(pack, found), originals.at(places)


def all_matched(system: str, pack: Pack, originals: Images) -> Images:
    """The images of a system named like the originals, in their order.

    Raises:
        DataError: some are missing.
    """
    found, there = matched(pack, originals)
    if len(found) < len(originals):
        known = set(there.rows.tolist())
        missing = [originals.pack.names[int(row)] for row in originals.rows if int(row) not in known]
        what = f"{len(missing):,} of {len(originals):,} unseen images have no reconstruction"
        raise DataError(f"reconstructions {system}: {what}, for instance {listed(missing[:2])}; name files like them")
    return found


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()
