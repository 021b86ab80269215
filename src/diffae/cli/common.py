"""What commands share: naming and writing files, warnings, and facts about runs."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from diffae.cli.terminal import counted, note, warn
from diffae.errors import CheckpointError, DataError, DiffaeError, reading

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.config import Sampling
    from diffae.data.images import ImageMetadata
    from diffae.data.pack import Pack
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Tile

_DARK = 2**14  # of 2^16
_MOST_NAME_BYTES, _MOST_PATH_BYTES = 200, 1000  # without suffixes; file systems allow 255 and some thousands

trust_code = False
"""Whether a run's parts may be imported from outside diffae: the option --trust-code, set for each command line."""

# ---------------------------------------------------------------------- files to write


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Raise `DataError` if a file to write is one of the input files."""
    kept = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in kept:
            raise DataError(f"cannot write {path}: it is one of the files given to this command; choose another --out")


def check_picture(out: Path, *inputs: Path, animated: bool = False) -> None:
    """Raise `DataError` unless `out` has the suffix of a picture and is none of the input files."""
    from diffae.plotting import ANIMATED, STILL, check_suffix

    check_suffix(out, (*STILL, *ANIMATED) if animated else STILL)
    check_outputs([out], inputs)


def write_sheet(out: Path, tiles: Sequence[Tile], columns: int) -> None:
    """Write tiles as a picture, in rows of at most `columns`."""
    from diffae.plotting import in_rows, save_sheet, sheet

    save_sheet(out, sheet(in_rows(tiles, columns)))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically.

    Raises:
        TrainingError: it cannot be written.
    """
    from diffae.checkpoint import written_beside

    with (
        written_beside(path) as temporary,
        # names need not be valid UTF-8
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows([header, *rows])


def suffix_of(model: DiffusionAutoencoder, metadata: ImageMetadata | None) -> str:
    """Suffix of the file that `write_image` writes a decoded image to."""
    from diffae.data.images import suffix_for

    return suffix_for(model.image_shape[0], metadata.dtype if metadata else model.config.input.dtype, metadata)


def write_image(
    path: Path,
    x: Tensor,
    model: DiffusionAutoencoder,
    metadata: ImageMetadata | None = None,
    difference: bytes = b"",
) -> bool:
    """Write a decoded image (1, c, h, w) with the sample type, value range and metadata of its original.

    Without metadata the type is that of the model's training images.

    Returns:
        False where a `difference` was kept, and the image is nevertheless not the original bit for bit.

    Raises:
        DataError: the file cannot be written.
        CheckpointError: the difference is damaged.
    """
    from diffae.data.images import save_image, to_samples
    from diffae.latent.differences import restored

    given = model.config.input
    fitted = metadata and metadata.fitted(given.box, model.image_shape[1])
    samples, exact = to_samples(x, given, metadata.dtype if metadata else given.dtype)[0], True
    if difference:
        try:
            samples, exact = restored(samples, difference)
        except ValueError as error:
            raise CheckpointError(f"{path} cannot be restored ({error}): encode the image again") from error
    save_image(path, samples, fitted)
    return exact


def output_names(names: Sequence[str], suffix: str = ".png") -> list[PurePosixPath]:
    """A distinct relative file name for each image; see `OutputNames`."""
    name_of = OutputNames(lambda: names, suffix)
    return [name_of(row, name) for row, name in enumerate(names)]


class OutputNames:
    """A distinct relative file name for each image, inside the output folder for any names.

    "a/b.jpg" becomes "a/b.png"; if there is "a/b.webp" too, both keep their suffix: "a/b.jpg.png". What is still the
    same after that gets its number among the images, all but the first: "a/b.jpg-7.png".

    Args:
        names: iterates over the names of all images; called twice. Of each name a hash is kept, so that the names of
            millions of images need not fit into memory.
        suffix: appended to each file name.
    """

    def __init__(self, names: Callable[[], Iterable[str]], suffix: str) -> None:
        import numpy as np

        def hashes(text_of: Callable[[str], str]) -> np.ndarray:
            return np.fromiter((_hash(text_of(name)) for name in names()), np.int64)

        self._suffix = suffix
        stems, counts = np.unique(hashes(_stem), return_counts=True)
        self._shared = set(stems[counts > 1].tolist())
        self._taken, rows, counts = np.unique(hashes(self._short), return_index=True, return_counts=True)
        self._row_of = dict(zip(self._taken[counts > 1].tolist(), rows[counts > 1].tolist(), strict=True))

    def __call__(self, row: int, name: str) -> PurePosixPath:
        """The file name of image number `row`."""
        short = self._short(name)
        if self._row_of.get(_hash(short), row) != row:
            short += f"-{row + 1}"
            while self._is_taken(short):
                short += f"-{row + 1}"
        return PurePosixPath(short + self._suffix)

    def _short(self, name: str) -> str:
        """A name without its suffix where no other has the same."""
        stem = _stem(name)
        return _inside(name).as_posix() if _hash(stem) in self._shared else stem

    def _is_taken(self, short: str) -> bool:
        place = self._taken.searchsorted(_hash(short))
        return self._taken[place : place + 1].tolist() == [_hash(short)]


def _stem(name: str) -> str:
    return _inside(name).with_suffix("").as_posix()


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _inside(name: str) -> PurePosixPath:
    """A name as a relative path that any file system takes: without `..`, control characters and overlong parts.

    On Windows also without drives.
    """
    parts = re.sub(r"[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]", "_", name).split("/")
    if os.name == "nt":
        parts = [re.sub(r'[\\:*?"<>|]', "_", part) for part in parts]
    parts = [_short(part) for part in parts if part not in ("", ".", "..")] or ["image"]
    path = PurePosixPath(*parts)
    return path if len(os.fsencode(path)) <= _MOST_PATH_BYTES else PurePosixPath(_short("_".join(parts)))


def _short(part: str) -> str:
    """A part of a path, cut where it is too long; a hash distinguishes it from others that begin alike."""
    if len(os.fsencode(part)) <= _MOST_NAME_BYTES:
        return part
    digest = hashlib.blake2b(os.fsencode(part), digest_size=6).hexdigest()
    suffix = PurePosixPath(part).suffix
    suffix = suffix if len(suffix) < 10 else ""
    return f"{os.fsdecode(os.fsencode(part)[: _MOST_NAME_BYTES // 2])}-{digest}{suffix}"


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        DataError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {path}: {error.strerror}; choose another --out") from error


@contextmanager
def drawing_faces() -> Iterator[None]:
    """Raise `DataError` for sizes in which `sketchfaces` cannot draw."""
    try:
        yield
    except DiffaeError:
        raise
    except ValueError as error:
        raise DataError(f"faces cannot be drawn for this model: {error}") from error


# ---------------------------------------------------------------------- warnings and facts


def warn_skipped(skipped: Sequence[tuple[str, str]], where: str = "") -> None:
    """Warn of images that could not be read: how many, and the first ten with their reasons."""
    if skipped:
        more = [f"... and {len(skipped) - 10} more"] if len(skipped) > 10 else []
        reasons = [reason for _, reason in skipped[:10]]
        warn(f"left out {counted(len(skipped))} that cannot be read{where}:", *reasons, *more)


def warn_residuals(residual: Tensor | None, sampling: Sampling) -> None:
    """Warn of images whose exact inversion did not reach its tolerance."""
    if residual is None:
        return
    worse = residual[residual > sampling.tolerance]
    if len(worse):
        what = f"inversion of {len(worse)} of {counted(len(residual))} stopped at a residual of up to {worse.max():.2g}"
        warn(f"{what}, above {sampling.tolerance:g}: their x_T is the best one found; more --steps bring it closer")


def tell_values(pack: Pack) -> None:
    """Print which values become black and white; warn if 16-bit images hardly use their range."""
    import numpy as np

    if pack.window is not None:
        each = "; ".join(f"channel {number}: {low:g} to {high:g}" for number, (low, high) in enumerate(pack.window, 1))
        note(f"values from black to white, of {pack.samples}: {each}")
    elif pack.dtype == np.uint16:
        brightest = pack.fetch(np.linspace(0, len(pack) - 1, min(len(pack), 64)).astype(int)).max()
        if brightest < _DARK:
            what = f"images reach {brightest} of 65535, so the model sees them nearly black"
            warn(f"{what}: use --window auto, or for instance --window 0,4095")


def images_seen(folder: Path) -> int:
    """Images that a run has been trained on, by its saved state; 0 without one.

    Raises:
        CheckpointError: the state is damaged.
    """
    from safetensors import safe_open

    path = folder / "training" / "state.safetensors"
    if not path.is_file():
        return 0
    images, batch_size = length_of_training(folder)
    with reading(path, "start again with --overwrite", CheckpointError), safe_open(path, "np") as file:
        return min(int(file.metadata()["step"]) * batch_size, images)


def length_of_training(folder: Path) -> tuple[int, int]:
    """Images that a run is trained on, and how many at a time, by its config.json.

    Raises:
        CheckpointError: it does not say so.
    """
    from diffae import checkpoint

    training = checkpoint.read_config(folder).get("training")
    stated = training if isinstance(training, dict) else {}
    match stated.get("images"), stated.get("batch_size"):
        case int(images), int(batch_size) if 0 < images < 2**63 and 0 < batch_size < 2**63:
            return images, batch_size
        case images, batch_size:
            what = f"training states {images!r:.40} images, {batch_size!r:.40} at a time"
            raise CheckpointError(
                f"{folder / checkpoint.CONFIG}: {what}, these must be counts; restore it from a backup"
            )
