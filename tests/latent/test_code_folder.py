"""Folders of codes: shards written as they come, checked, resumed and read in parts; and the files of small sets."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_model

from diffae.config import Sampling, to_dict
from diffae.data.formats.metadata import ImageMetadata
from diffae.data.sources import Item, ListedSource, Source
from diffae.data.sources.arrays import ArraySource
from diffae.errors import CheckpointError, DataError
from diffae.latent import code_file, code_folder
from diffae.latent.code_folder import CodeFolder, Manifest, open_codes, shard_size
from diffae.latent.codes import StoredCodes, load_codes, save_codes
from diffae.latent.encoding import BATCH, Shard, encode_shards

MODEL = tiny_model()
MANIFEST = Manifest(MODEL.fingerprint(), Sampling(3, inversion="explicit"), "key", False, BATCH)
PIXELS = np.random.default_rng(0).integers(0, 256, (150, 16, 16, 3)).astype(np.uint8)


def source(count: int = 150) -> ListedSource:
    return ArraySource(Path("images.npy"), PIXELS[:count])


class Sequential(Source):
    """The same images, of unknown number, and only in sequence; some cannot be read."""

    def __init__(self, bad: range = range(0)) -> None:
        self.path, self.bad = Path("sequence"), bad

    def items(self, start: int = 0) -> Iterator[Item]:
        for k, item in enumerate(source().items()):
            if k >= start:
                yield Item(item.name, self.fail) if k in self.bad else item

    def fingerprint(self) -> Iterator[tuple]:
        return iter(())

    def fail(self, spec: object) -> np.ndarray:
        raise DataError("image is damaged")


def encode(images: Source, numbers: list[int], sampling: Sampling | None = None) -> list[Shard]:
    return list(encode_shards(MODEL, images, sampling, BATCH, numbers))


def write(path: Path, shards: list[Shard], manifest: Manifest = MANIFEST) -> CodeFolder:
    folder = CodeFolder.start(path, manifest)
    for shard in shards:
        folder.write(shard)
    return folder


def test_shards_are_those_of_one_batch_after_another() -> None:
    shards = encode(source(), [0, 1, 2, 3])
    assert [(shard.number, shard.seen) for shard in shards] == [(0, 64), (1, 64), (2, 22)]
    x = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 127.5 - 1
    expected = torch.cat([MODEL.encode_semantic(x[rows : rows + BATCH]) for rows in (0, 64, 128)])
    torch.testing.assert_close(torch.cat([shard.code.z_sem for shard in shards]), expected)  # pyright: ignore
    assert [name for shard in shards for name in shard.names] == source().names


@pytest.mark.parametrize("images", [source(), Sequential()])
def test_single_shards_are_those_of_all(images: Source) -> None:
    every = encode(source(), [0, 1, 2])
    for numbers in ([1], [0, 2], [2, 5]):
        for shard in encode(images, numbers):
            assert shard.names == every[shard.number].names
            assert torch.equal(shard.code.z_sem, every[shard.number].code.z_sem)  # pyright: ignore


def test_images_that_cannot_be_read_are_skipped() -> None:
    first, second, third = encode(Sequential(bad=range(10, 128)), [0, 1, 2])
    assert (first.seen, len(first.names), len(first.skipped)) == (64, 10, 54)
    assert (second.names, tuple(second.code.z_sem.shape), len(second.skipped)) == ([], (0, 6), 64)  # pyright: ignore
    assert first.skipped[0] == ("00000010", "image is damaged")
    assert torch.equal(third.code.z_sem, encode(source(), [2])[0].code.z_sem)  # pyright: ignore


def test_progress_counts_images() -> None:
    seen: list[int] = []
    list(encode_shards(MODEL, source(), None, 128, [0, 1], seen.append))
    assert seen == [64, 128, 150]


@pytest.mark.parametrize("inversion", ["exact", "bdia"])
def test_a_folder_reads_back_what_was_written(tmp_path: Path, inversion: Any) -> None:
    sampling = Sampling(3, inversion=inversion)
    manifest = dataclasses.replace(MANIFEST, sampling=sampling, stochastic=True)
    shards = encode(source(70), [0, 1], sampling)
    origin = ImageMetadata("tiff", "uint16", (16, 16))
    shards[1] = dataclasses.replace(shards[1], origins=[origin, *shards[1].origins[1:]], names=["\udcff\n", *"bcdef"])
    folder = write(tmp_path / "codes", shards, manifest)
    assert folder.finish(70) == code_folder.Totals(2, 70, 0)
    stored = open_codes(tmp_path / "codes")
    assert (stored.parts, stored.count, stored.stochastic) == (2, 70, True)
    second = stored.read(1)
    assert second.names == stored.names(1) == ["\\udcff\n", *"bcdef"]
    assert (second.sampling, second.model) == (sampling, MANIFEST.model)
    assert second.origins == (origin, *[None] * 5)
    for name in ("z_sem", "x_T", "x_below", "residual", "calls"):
        left, right = getattr(second, name), getattr(shards[1].code, name)
        assert left is right is None or torch.equal(left, right)
    joined = load_codes(tmp_path / "codes")
    assert len(joined) == 70
    assert joined.origins[64] == origin
    assert (folder.residuals() is not None) == (inversion == "exact")


def test_a_folder_is_resumed(tmp_path: Path) -> None:
    shards = encode(source(), [0, 1, 2])
    path = tmp_path / "codes"
    folder = write(path, [shards[0], shards[2]])
    with pytest.raises(DataError, match="64 of 150 images are there, shard 1 is missing or damaged"):
        folder.finish(150)
    with pytest.raises(CheckpointError, match="is not complete: run the `diffae encode` that began it again"):
        open_codes(path)
    again = CodeFolder.start(path, dataclasses.replace(MANIFEST, shard_size=4096))
    assert again.manifest.shard_size == BATCH  # as it was begun
    assert [again.has(number) for number in range(4)] == [True, False, True, False]
    (path / "codes-000002.parquet").write_bytes((path / "codes-000002.parquet").read_bytes()[:-9])
    assert not again.has(2)
    again.write(shards[1])
    again.write(shards[2])
    assert again.finish(None) == code_folder.Totals(3, 150, 0)


def test_a_shard_without_its_states_or_of_another_folder_is_written_again(tmp_path: Path) -> None:
    sampling = Sampling(3, inversion="explicit")
    manifest = dataclasses.replace(MANIFEST, sampling=sampling, stochastic=True)
    [shard] = encode(source(5), [0], sampling)
    folder = write(tmp_path / "a", [shard], manifest)
    assert folder.has(0)
    other = write(tmp_path / "b", [], dataclasses.replace(manifest, images="other"))
    for name in ("codes-000000.parquet", "x_T-000000.safetensors"):
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    assert not other.has(0)
    states = tmp_path / "a" / "x_T-000000.safetensors"
    states.write_bytes(states.read_bytes()[:-1])
    assert not folder.has(0)
    states.unlink()
    assert not folder.has(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "ffff"}, "holds codes of another model"),
        ({"sampling": Sampling(4)}, "found with other sampling settings"),
        ({"stochastic": True}, "that differ in --stochastic"),
        ({"columns": ("age",)}, "with other columns"),
        ({"images": "other"}, "of other images"),
    ],
)
def test_other_codes_are_not_mixed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path / "codes", [])
    with pytest.raises(CheckpointError, match=message):
        CodeFolder.start(tmp_path / "codes", dataclasses.replace(MANIFEST, **change))


def test_what_is_no_folder_of_codes(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    for name in ("photos", "file"):
        with pytest.raises(DataError, match="it exists and holds no codes; choose another --out"):
            CodeFolder.start(tmp_path / name, MANIFEST)
    with pytest.raises(CheckpointError, match="holds no codes: it has no codes"):
        open_codes(tmp_path / "photos")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "written by another version"),
        ({"format": "x"}, "written by another version"),
        ({"sampling": 3}, "codes.json"),
        ({"done": {"shards": "1"}}, "codes.json: "),
        ({"more": 1}, "codes.json: "),
        ({"shard_size": 0}, "shard_size is 0: must be at least 1"),
        ({"columns": 3}, "codes.json: "),
    ],
)
def test_a_damaged_manifest(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path, [])
    file = tmp_path / "codes.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message):
        open_codes(tmp_path)
    for text in ("[", "[]", "3", "null"):
        file.write_text(text)
        with pytest.raises(CheckpointError, match="is damaged"):
            open_codes(tmp_path)


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    write(tmp_path, encode(source(), [0, 1, 2])).finish(150)
    stored = open_codes(tmp_path)
    (tmp_path / "codes-000000.parquet").unlink()
    with pytest.raises(CheckpointError, match=r"codes-000000.parquet is missing"):
        stored.read(0)
    (tmp_path / "codes-000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(CheckpointError, match=r"codes-000001.parquet is damaged .*; remove it, and run"):
        stored.names(1)


def test_shards_are_bounded_by_images_and_by_bytes() -> None:
    assert shard_size(2048) == 8192
    assert shard_size(4 * 3 * 256 * 256) == 128
    assert shard_size(10**9) == BATCH


def stored_codes(count: int) -> StoredCodes:
    names = [f"{k}é" if k % 2 else "" for k in range(count)]
    return StoredCodes(names, "0123", Sampling(3), z_sem=torch.randn(count, 3))


def test_a_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_file, "_PART", 4)
    codes = dataclasses.replace(stored_codes(10), origins=(None, ImageMetadata("png", "uint16", (3, 3)), *[None] * 8))
    save_codes(tmp_path / "c.safetensors", codes)
    stored = open_codes(tmp_path / "c.safetensors")
    assert (stored.parts, stored.count, stored.stochastic) == (3, 10, False)
    assert stored.read(2).names == stored.names(2) == codes.names[8:]
    assert torch.equal(stored.read(1).z_sem, codes.z_sem[4:8])  # pyright: ignore
    again = load_codes(tmp_path / "c.safetensors")
    assert (again.names, again.origins) == (codes.names, list(codes.origins))


def test_no_number_of_names_overflows_the_header(tmp_path: Path) -> None:
    """The header of a safetensors file may have 100 MB, which the names of some million images exceed."""
    few, many = tmp_path / "few.safetensors", tmp_path / "many.safetensors"
    save_codes(few, stored_codes(2))
    save_codes(many, stored_codes(2000))
    header = [int.from_bytes(path.read_bytes()[:8], "little") for path in (few, many)]
    assert header[1] < header[0] + 100


def test_files_of_version_1_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    header = {"diffae_codes": "1", "model": "0123", "sampling": json.dumps(to_dict(Sampling(3)))}
    origins = [None, dataclasses.asdict(ImageMetadata("png", "uint16", (3, 3)))]
    z_sem = {"z_sem": torch.randn(2, 3)}
    save_file(z_sem, tmp_path / "old", {**header, "names": '["a", "b/c"]', "origins": json.dumps(origins)})
    codes = load_codes(tmp_path / "old")
    assert codes.names == ["a", "b/c"]
    assert codes.origins == [None, ImageMetadata("png", "uint16", (3, 3))]
    for names in ("[1, 2]", "3", '["a"]'):
        save_file(z_sem, tmp_path / "bad", {**header, "names": names})
        with pytest.raises(CheckpointError, match="is damaged"):
            load_codes(tmp_path / "bad")


def test_names_cut_short_are_damage(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "c.safetensors"
    save_codes(path, stored_codes(4))
    tensors, header = load_file(path), {"diffae_codes": "2", "model": "0", "sampling": json.dumps(to_dict(Sampling(3)))}
    ends = tensors["names_end"]
    for bad in (ends + 1, ends.flip(0), ends - 1, ends[:2]):
        save_file({**tensors, "names_end": bad.contiguous()}, path, header)
        with pytest.raises(CheckpointError, match="is damaged"):
            load_codes(path)
