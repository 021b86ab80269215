"""`diffae encode` and `diffae decode`: images to codes, in one file or in shards, and back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from diffae.cli import common, models
from diffae.cli.attributes import Columns
from diffae.cli.options import RunArgument, SamplingOptions
from diffae.cli.terminal import counted, say, warn
from diffae.console import progress
from diffae.distributed import barrier, is_main, processes, rank, require_one_process, world_size
from diffae.errors import ConfigError, DataError
from diffae.remote import entries, is_dir, is_file, is_remote, local, opened, remove, shown

if TYPE_CHECKING:
    from torch import Generator

    from diffae.config import Sampling
    from diffae.console import Update
    from diffae.data.sources import Source
    from diffae.data.tables import Piece
    from diffae.latent.code_folder import CodeFolder, Manifest
    from diffae.latent.codes import StoredCodes
    from diffae.latent.encoding import Shard
    from diffae.model import DiffusionAutoencoder

_ONE_FILE = ".safetensors"
_TABLES = (".parquet", ".csv", ".npy")
_SEEDS_APART = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Encode:
    """Encode images to a file or a folder of codes, or to a table.

    A folder is written in shards as they come: for any number of images, by one process or by several that torchrun
    starts. The same command resumes one that was interrupted.
    """

    model: RunArgument
    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Images: a folder, .zip, .npy, .npz, .pack, WebDataset shards, hf://owner/name, or one image file."""
    out: Path
    """Folder to write; or a file, .safetensors; or a table of z_sem: .parquet, .csv, .npy."""
    stochastic: bool = False
    """Encode x_T too, so that `diffae decode` reconstructs the images exactly."""
    residual: bool = False
    """Also keep what decoding leaves of each 8-bit image, compressed: `diffae decode` is then bit-exact, whatever the
    first stage loses. Needs --stochastic."""
    labels: Path | None = None
    """Labels to add to the table: a .csv or .parquet with a column of file names, or CelebA's text file."""
    readouts: bool = False
    """Add to the table what the run's attributes read: probabilities, and values of numbers."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the codes."""
        from diffae.checkpoint import WEIGHTS
        from diffae.data.tables import require_pyarrow
        from diffae.latent.differences import require_8_bits

        sampling = self.sampling.sampling()
        to_folder = self._check()
        if to_folder or self.out.suffix == ".parquet":
            require_pyarrow()
        common.check_outputs([self.out], [Path(self.model) / WEIGHTS, self.photos])
        if world_size() > 1:
            processes()
        model = models.open_model(self.model)
        if self.residual:
            require_8_bits(model.config)
        if not model.config.has_encoder and (not self.stochastic or self.out.suffix in _TABLES):
            raise ConfigError("z_sem_channels is 0: this model has no encoder; add --stochastic to encode x_T alone")
        source = models.open_photos(self.photos, model)
        columns = Columns(model, self.labels, readouts=self.readouts)
        if to_folder:
            self._to_folder(model, source, sampling, columns)
        elif self.out.suffix == _ONE_FILE:
            self._to_file(model, source, sampling)
        else:
            self._to_table(model, source, columns)
        return 0

    def _check(self) -> bool:
        """Whether to write a folder.

        Raises:
            DataError: the suffix names no kind of file, or one that cannot hold what is asked for.
        """
        if is_remote(self.out):
            opened(self.out)
        suffix = self.out.suffix
        if self.residual and not self.stochastic:
            raise ConfigError("residual is given without stochastic: details would be those of a random x_T; give both")
        if suffix not in (_ONE_FILE, *_TABLES):
            if suffix and not is_dir(self.out):
                rule = f"must be one of {', '.join((_ONE_FILE, *_TABLES))}, or none for a folder"
                raise DataError(f"cannot write {self.out.name}: the suffix {rule}; rename it")
            return True
        require_one_process("`diffae encode` to one file")
        if self.stochastic and suffix in _TABLES:
            raise DataError(f"cannot write {self.out.name}: a table holds no x_T; name a folder, or drop --stochastic")
        if (self.labels or self.readouts) and suffix in (_ONE_FILE, ".npy"):
            raise DataError(f"cannot write {self.out.name}: it holds codes alone; name a folder, a .parquet or a .csv")
        return False

    def _to_file(self, model: DiffusionAutoencoder, source: Source, sampling: Sampling) -> None:
        from diffae.data.build import check_space
        from diffae.latent.codes import StoredCodes, save_codes

        how = sampling if self.stochastic else None
        check_space(self.out, (source.count or 0) * _bytes_per_image(model, how))
        shards = models.encode_photos(model, source, models.SHARD, how, keep_pixels=self.residual)
        found = models.all_codes(shards, self.photos)
        code = found.code
        facts = {"origins": found.origins, "differences": self._differences(model, found, sampling)}
        codes = StoredCodes(found.names, model.fingerprint(), sampling, **vars(code), **facts)
        save_codes(self.out, codes)
        common.warn_skipped(found.skipped)
        common.warn_residuals(code.residual, sampling)
        say(f"{_parts(code.z_sem is not None, self.stochastic)} of {counted(len(code))} written to {shown(self.out)}.")

    def _differences(self, model: DiffusionAutoencoder, shard: Shard, sampling: Sampling) -> list[bytes]:
        from diffae.latent.differences import differences_of

        return differences_of(model, shard.code, shard.pixels, sampling) if self.residual else []

    def _to_table(self, model: DiffusionAutoencoder, source: Source, columns: Columns) -> None:
        def piece(shard: Shard) -> Piece:
            assert shard.code.z_sem is not None
            return {"name": shard.names, "z_sem": shard.code.z_sem.numpy(), **columns(shard)}

        count = models.write_table(self.out, model, source, piece)
        say(f"z_sem of {counted(count)} written to {shown(self.out)}.")

    def _to_folder(self, model: DiffusionAutoencoder, source: Source, sampling: Sampling, columns: Columns) -> None:
        from diffae.data.locks import in_use
        from diffae.latent.code_folder import DIFFERENCE

        how = sampling if self.stochastic else None
        folder = self._start(model, source, sampling, columns)
        with in_use(self.out) if is_main() and not is_remote(self.out) else nullcontext():
            mine = self._mine(folder, source)
            size = folder.manifest.shard_size
            for shard in models.encode_photos(model, source, size, how, mine, keep_pixels=self.residual):
                further = {DIFFERENCE: self._differences(model, shard, sampling)} if self.residual else {}
                folder.write(shard, {**columns(shard), **further})
            barrier()
        if is_main():
            done = folder.finish(source.count)
            models.require_some(done.count, folder.skipped(), self.photos)
            common.warn_skipped(list(folder.skipped()))
            common.warn_residuals(folder.residuals(), sampling)
            what = _parts(model.config.has_encoder, self.stochastic)
            say(f"{what} of {counted(done.count)} written to {shown(self.out)}, in {counted(done.shards, 'shard')}.")
        barrier()

    def _mine(self, folder: CodeFolder, source: Source) -> Iterable[int]:
        """The shards that this process has to write; without end where the number of images is not known."""
        shards = count() if source.count is None else range(-(-source.count // folder.manifest.shard_size))
        mine = (number for number in shards if number % world_size() == rank() and not folder.has(number))
        return mine if source.count is None else list(mine)

    def _start(self, model: DiffusionAutoencoder, source: Source, sampling: Sampling, columns: Columns) -> CodeFolder:
        """The folder, with its manifest, which the first process writes."""
        from diffae.latent.code_folder import CodeFolder

        if is_main():
            CodeFolder.start(self.out, self._manifest(model, source, sampling, columns), trust_code=common.trust_code)
        barrier()
        return CodeFolder.begun(self.out, trust_code=common.trust_code)

    def _manifest(self, model: DiffusionAutoencoder, source: Source, sampling: Sampling, columns: Columns) -> Manifest:
        from diffae.data.build import check_space
        from diffae.data.build.parallel import ContentKey
        from diffae.data.images import ImageSpec
        from diffae.latent.code_folder import DIFFERENCE, Manifest, shard_size

        each = _bytes_per_image(model, sampling if self.stochastic else None)
        if not (self.out.exists() or is_remote(self.out)):
            check_space(self.out, (source.count or 0) * each)
        key = ContentKey(source, ImageSpec.of_model(model.config), columns.key).of_first()
        names = (*columns.names, DIFFERENCE) if self.residual else columns.names
        return Manifest(model.fingerprint(), sampling, key, self.stochastic, shard_size(each), names)


@dataclass(frozen=True)
class Decode:
    """Decode a file or a folder of codes to images.

    The sampling settings are those the codes were made with. The same command resumes one that was interrupted.
    """

    model: RunArgument
    codes: Annotated[Path, Positional, arg(metavar="CODES")]
    """File or folder made by `diffae encode`."""
    out: Path
    """Folder for the images."""
    seed: int = 0
    """Seed of x_T for codes that have none."""

    def run(self) -> int:
        """Write the images."""
        from diffae.latent.code_folder import open_codes

        stored = open_codes(self.codes, trust_code=common.trust_code)
        if world_size() > 1:
            processes()
        model = models.open_model(self.model)
        fingerprint = model.fingerprint()
        marks = _Marks(self.out, f"{fingerprint} {stored.key} {self.seed}")
        names = common.OutputNames(lambda: chain.from_iterable(map(stored.names, range(stored.parts))), "-decoded")
        row = 0
        with progress("decoding", stored.count) as done:
            for number in range(stored.parts):
                if number % world_size() != rank() or marks.has(number):
                    row += len(stored.names(number))
                else:
                    part = stored.read(number)
                    part.check_model(fingerprint, self.codes)
                    stems = [self.out / names(row + k, name) for k, name in enumerate(part.names)]
                    generator = models.seeded((self.seed + number * _SEEDS_APART) % 2**63 if number else self.seed)
                    marks.set(number, self._write(model, part, stems, generator, partial(_add, done, row)))
                    row += len(part)
                done(row)
        barrier()
        if is_main():
            marks.remove()
        if not stored.stochastic:
            say(f"The codes hold no x_T: it was drawn with --seed {self.seed}, so details are invented.")
        say(f"{counted(stored.count)} written to {shown(self.out)}.")
        return 0

    def _write(
        self,
        model: DiffusionAutoencoder,
        part: StoredCodes,
        stems: list[Path],
        generator: Generator,
        done: Callable[[int], None],
    ) -> list[Path]:
        """Decode a part to files; returns their paths."""
        origins = part.origins or [None] * len(part)
        endings = (common.suffix_of(model, origin) for origin in origins)
        paths = [stem.with_name(stem.name + ending) for stem, ending in zip(stems, endings, strict=True)]
        common.check_outputs(paths, [self.codes])
        batches = models.decode_batches(model, part.code, part.sampling, generator)
        images = (image[None] for batch in batches for image in batch)
        differences = part.differences or [b""] * len(part)
        inexact = 0
        for written, (path, image, origin, difference) in enumerate(
            zip(paths, images, origins, differences, strict=True), 1
        ):
            inexact += not common.write_image(path, image, model, origin, difference)
            done(written)
        if inexact:
            what = f"{counted(inexact)} of {len(part)} differ from the originals by rounding"
            warn(f"{what}: they were encoded on another machine or with another version of PyTorch")
        return paths


class _Marks:
    """Which parts are decoded: hidden files in the output folder, until all are.

    Args:
        folder: where the images are written.
        key: what the images depend on; marks of others do not count.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._key = hashlib.sha256(key.encode()).hexdigest()[:16]

    def _file(self, number: int) -> Path:
        return self._folder / f".decoded-{self._key}-{number:06d}"

    def has(self, number: int) -> bool:
        """Whether a part is decoded, and its images are still there."""
        if not is_file(self._file(number)):
            return False
        with local(self._file(number)) as here, suppress(OSError, ValueError):
            paths = json.loads(here.read_text(encoding="utf-8"))
            return all(is_file(self._folder / path) for path in paths)
        return False

    def set(self, number: int, paths: list[Path]) -> None:
        """Note that a part is decoded, to these paths."""
        from diffae.checkpoint import written_beside

        with written_beside(self._file(number)) as temporary:
            temporary.write_text(json.dumps([str(path.relative_to(self._folder)) for path in paths]), encoding="utf-8")

    def remove(self) -> None:
        """Remove all marks."""
        for file in entries(self._folder):
            if file.name.startswith(".decoded-"):
                remove(file)


def _add(done: Update, before: int, more: int) -> None:
    done(before + more)


def _parts(semantic: bool, stochastic: bool) -> str:
    return " and ".join(["z_sem"] * semantic + ["x_T"] * stochastic)


def _bytes_per_image(model: DiffusionAutoencoder, sampling: Sampling | None) -> int:
    """Bytes of z_sem, and with `sampling` of the stochastic code."""
    z_sem, states = 4 * model.config.z_sem_channels, 0
    if sampling is not None:
        states = math.prod(model.config.latent_shape) * (8 if sampling.precision == "float64" else 4)
    return z_sem + states * (2 if sampling is not None and sampling.inversion == "bdia" else 1)
