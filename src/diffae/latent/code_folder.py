"""Codes of any number of images, as a folder of shards that are written as they come.

    codes.json                    the model's fingerprint, sampling, images, images in a shard; at the end the counts
    codes-000000.parquet          name, z_sem (fixed-size list), metadata of the file, and further columns
    x_T-000000.safetensors        x_T, and what else inversion keeps

Shard k holds what could be read of images k * size, ..., (k + 1) * size - 1. Its Parquet file is written last, so that
where it is, the shard is complete. Several processes may write shards of one folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from diffae import errors, remote
from diffae.checkpoint import read_tensors, write_tensors, written_beside
from diffae.config import Sampling, from_dict, to_dict
from diffae.data.tables import HOW, Column, arrow_table, require_pyarrow, vectors_of
from diffae.errors import CheckpointError, DataError, require
from diffae.latent.code_file import FORMAT, CodeFile, origin_from_text, origin_to_text, reading, require_codes
from diffae.latent.codes import StoredCodes
from diffae.latent.encoding import BATCH, Shard

MANIFEST = "codes.json"
_VERSION = 2
_MOST, _MOST_BYTES = 8192, 2**27  # of a shard: images, and bytes of their codes
_TABLE, _STATES = "codes-{:06d}.parquet", "x_T-{:06d}.safetensors"
DIFFERENCE = "difference"
"""The column of what decoding leaves of each image, if it is kept."""
_COLUMNS = ("name", "z_sem", "metadata", DIFFERENCE)
_DIFFERENCES = {
    "model": "of another model",
    "sampling": "found with other sampling settings",
    "stochastic": "that differ in --stochastic",
    "columns": "with other columns",
    "images": "of other images, or with other labels or read-outs",
}
_KEPT = ("x_T", "x_below", "residual", "calls")


@dataclass(frozen=True)
class Manifest:
    """What a folder of codes holds; two folders with the same manifest hold the same codes."""

    model: str
    """Fingerprint of the model that made them."""
    sampling: Sampling
    """How x_T was found, and so how it must be decoded."""
    images: str
    """Key of the images and of whatever else is in the tables."""
    stochastic: bool
    """Whether there is x_T."""
    shard_size: int
    """Images in a shard."""
    columns: tuple[str, ...] = ()
    """Further columns of the tables."""

    def __post_init__(self) -> None:
        require(self.shard_size >= 1, "shard_size", self.shard_size, "must be at least 1")

    @property
    def key(self) -> str:
        """A hash of it, which every shard carries."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:16]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "model": str(self.model), "sampling": to_dict(self.sampling), "columns": [*self.columns]}


@dataclass(frozen=True)
class Totals:
    """What a complete folder holds."""

    shards: int
    count: int
    """Images that were encoded."""
    skipped: int
    """Images that could not be read."""


def shard_size(bytes_per_image: int) -> int:
    """Images in a shard whose codes take so many bytes each: a multiple of BATCH."""
    return max(min(_MOST, _MOST_BYTES // max(bytes_per_image, 1)) // BATCH, 1) * BATCH


class CodeFolder:
    """A folder of codes. `start` writing one, or `open` a complete one."""

    def __init__(self, path: Path, manifest: Manifest, totals: Totals | None) -> None:
        require_pyarrow()
        self.path, self.manifest, self.totals = path, manifest, totals
        self.key, self.stochastic = manifest.key, manifest.stochastic

    @classmethod
    def open(cls, path: Path, *, trust_code: bool = False) -> CodeFolder:
        """A folder to read.

        Raises:
            CheckpointError: it is not a folder of codes, not complete or damaged; or its sampling needs code from
                outside, and `trust_code` is false.
            ConfigError: pyarrow is not installed.
        """
        folder = cls.begun(path, trust_code=trust_code)
        if folder.totals is None:
            raise CheckpointError(f"{path} is not complete: run the `diffae encode` that began it again")
        return folder

    @classmethod
    def begun(cls, path: Path, *, trust_code: bool = False) -> CodeFolder:
        """A folder that may not be complete."""
        file = path / MANIFEST
        if not remote.is_file(file):
            raise CheckpointError(f"{path} holds no codes: it has no {MANIFEST}; make it with `diffae encode`")
        with remote.local(file) as here, reading(file):
            stated = json.loads(here.read_text(encoding="utf-8"))
            if not isinstance(stated, dict):
                raise ValueError("it is not a JSON object")
            if stated.pop("format") != FORMAT or stated.pop("version") != _VERSION:
                what = "was written by another version of diffae: read it with that one, or encode again"
                raise CheckpointError(f"{file} {what}")
            done = stated.pop("done")
            manifest = from_dict(Manifest, stated, trust_code=trust_code)
            return cls(path, manifest, None if done is None else from_dict(Totals, done))

    @classmethod
    def start(cls, path: Path, manifest: Manifest, *, trust_code: bool = False) -> CodeFolder:
        """A folder to write, new or begun before.

        Raises:
            CheckpointError: it holds codes of another model, other images or other settings.
            DataError: it holds something else.
        """
        if remote.is_file(path / MANIFEST):
            folder = cls.begun(path, trust_code=trust_code)
            for name, difference in _DIFFERENCES.items():
                if manifest.plain()[name] != folder.manifest.plain()[name]:
                    raise CheckpointError(f"{path} holds codes {difference}: choose another --out, or remove it")
            return folder
        if remote.is_file(path) or any(not item.name.startswith(".") for item in remote.entries(path)):
            raise DataError(f"cannot write {path}: it exists and holds no codes; choose another --out")
        folder = cls(path, manifest, None)
        folder._write_manifest()
        return folder

    def _write_manifest(self) -> None:
        done = None if self.totals is None else asdict(self.totals)
        stated = {"format": FORMAT, "version": _VERSION, **self.manifest.plain(), "done": done}
        with written_beside(self.path / MANIFEST) as temporary:
            temporary.write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")

    # ------------------------------------------------------------------ writing

    def write(self, shard: Shard, columns: Mapping[str, Column] | None = None) -> None:
        """Write a shard; `columns` are the further ones of its table.

        Raises:
            TrainingError: the disk is full or the folder cannot be written.
        """
        kept = {name: value for name in _KEPT if (value := getattr(shard.code, name)) is not None}
        if kept:
            write_tensors(self.path / _STATES.format(shard.number), kept, {FORMAT: self.manifest.key})
        piece: dict[str, Column] = {"name": shard.names}
        if shard.code.z_sem is not None:
            piece["z_sem"] = shard.code.z_sem.numpy()
        piece |= {"metadata": [*map(origin_to_text, shard.origins)], **(columns or {})}
        facts = {"key": self.manifest.key, "seen": shard.seen, "skipped": shard.skipped}
        table = arrow_table(piece, {FORMAT: json.dumps(facts)})
        with written_beside(self.path / _TABLE.format(shard.number)) as temporary:
            require_pyarrow().write_table(table, temporary, **HOW)

    def has(self, number: int) -> bool:
        """Whether a shard is there, complete."""
        facts = self._facts(number)
        if facts is None or not (self.manifest.stochastic and facts["rows"]):
            return facts is not None
        states = self.path / _STATES.format(number)
        if remote.is_remote(states):  # what is there is whole, and too much to be fetched
            return remote.is_file(states)
        try:
            with safe_open(states, "pt") as file:
                return (file.metadata() or {}).get(FORMAT) == self.manifest.key
        except Exception:  # missing or damaged: it is written again
            return False

    def finish(self, count: int | None) -> Totals:
        """Note that all shards are there.

        Args:
            count: of all images, where it is known.
        Raises:
            DataError: a shard is missing.
        """
        shards = 0
        seen = rows = 0
        while (facts := self._facts(shards)) is not None:
            seen, rows, shards = seen + facts["seen"], rows + facts["rows"], shards + 1
        if count is not None and seen != count:
            what = f"{seen} of {count} images are there, shard {shards} is missing or damaged"
            raise DataError(f"codes {self.path}: {what}; run the command again")
        self.totals = Totals(shards, rows, seen - rows)
        self._write_manifest()
        return self.totals

    def skipped(self) -> Iterable[tuple[str, str]]:
        """Name of each image that could not be read, and why."""
        number = 0
        while (facts := self._facts(number)) is not None:
            yield from ((name, reason) for name, reason in facts["skipped"])
            number += 1

    def residuals(self) -> Tensor | None:
        """Residual of exact inversion of each image; None for other inversions."""
        found = []
        for number in range(self.parts):
            file = self.path / _STATES.format(number)
            if self.stochastic and remote.is_file(file):
                with remote.local(file) as here, reading(file), safe_open(here, "pt") as states:
                    found += [states.get_tensor(name) for name in states.keys() if name == "residual"]  # noqa: SIM118
        return torch.cat(found) if found else None

    def _facts(self, number: int) -> dict[str, Any] | None:
        """What the table of a shard says about it, and its number of rows; None where it is not a complete one."""
        file = self.path / _TABLE.format(number)
        if not remote.is_file(file):
            return None
        try:
            with remote.reading(file) as opened:
                about = require_pyarrow().read_metadata(opened)
            facts = json.loads(about.metadata[FORMAT.encode()])
            return {**facts, "rows": about.num_rows} if facts["key"] == self.manifest.key else None
        except Exception:  # damaged: it is written again
            return None

    # ------------------------------------------------------------------ reading

    @property
    def count(self) -> int:
        """Images whose codes it holds."""
        assert self.totals is not None
        return self.totals.count

    @property
    def parts(self) -> int:
        """Number of shards."""
        assert self.totals is not None
        return self.totals.shards

    def names(self, number: int) -> list[str]:
        """The names of a shard."""
        return self._table(number, ("name",))["name"].to_pylist()

    def read(self, number: int) -> StoredCodes:
        """The codes of a shard; `CheckpointError` if it is missing or damaged."""
        file = self.path / _TABLE.format(number)
        table = self._table(number, _COLUMNS)
        with reading(file):
            names = table["name"].to_pylist()
            origins = tuple(map(origin_from_text, table["metadata"].to_pylist()))
            differences = table[DIFFERENCE].to_pylist() if DIFFERENCE in table.column_names else ()
            tensors = {"z_sem": torch.from_numpy(vectors_of(table["z_sem"]))} if "z_sem" in table.column_names else {}
        if self.manifest.stochastic and names:
            with remote.local(self.path / _STATES.format(number)) as states:
                tensors |= read_tensors(states)[0]
        with reading(file):
            if any(len(value) != len(names) for value in tensors.values()):
                raise ValueError("names and codes differ in number")
            facts = {"origins": origins if any(origins) else (), "differences": differences}
            codes = StoredCodes(names, self.manifest.model, self.manifest.sampling, **tensors, **facts)
        require_codes(file, tensors)
        return codes

    def _table(self, number: int, columns: Iterable[str]) -> Any:
        file = self.path / _TABLE.format(number)
        if not remote.is_file(file):
            raise CheckpointError(f"{file} is missing: run the `diffae encode` that made it again")
        with (
            errors.reading(file, "remove it, and run the `diffae encode` that made it again", CheckpointError),
            remote.reading(file) as readable,
        ):
            opened = require_pyarrow().ParquetFile(readable)
            return opened.read(columns=[name for name in columns if name in opened.schema_arrow.names])


def open_codes(path: str | Path, *, trust_code: bool = False) -> CodeFile | CodeFolder:
    """Codes on disk, in a file or a folder, to be read in parts; see `CodeFile` and `CodeFolder.open`."""
    path = Path(path)
    return (CodeFolder.open if remote.is_dir(path) else CodeFile)(path, trust_code=trust_code)
