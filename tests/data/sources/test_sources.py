"""Sources become packs, and packs are sources, with their labels."""

from __future__ import annotations

import io
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import encoded, number_of, picture, sample, tar

from diffae.data.build import build_pack, prepare_pack
from diffae.data.images import ImageSpec
from diffae.data.pack import Pack
from diffae.data.sources import open_listed, open_source
from diffae.errors import DataError

SPEC = ImageSpec(channels=3, size=8)


def test_a_pack_made_of_a_pack_keeps_its_labels(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {**sample(1, cls=b"0"), **sample(2, cls=b"1")})
    first = prepare_pack(open_source(tmp_path / "a.tar"), tmp_path / "a.pack", SPEC, source="a")
    small = build_pack(first.path, tmp_path / "packs", size=4)
    assert small.labels is not None
    assert small.labels.column("class").tolist() == [0, 1]
    assert Pack.from_arrays([picture(1)[None]], tmp_path / "b.pack").labels is None


def test_a_late_16_bit_image_restarts_the_pack(tmp_path: Path) -> None:
    """The LMDB is then read a second time."""
    buffer = io.BytesIO()
    np.save(buffer, np.full((8, 8), 12345, np.uint16))
    entries = {f"{i:03d}": encoded(i % 20) for i in range(40)} | {"040": buffer.getvalue()}
    stream = open_source(layouts.write_lmdb(tmp_path / "a", entries))
    pack = prepare_pack(stream, tmp_path / "a.pack", SPEC, source="a")
    assert (pack.dtype, pack.fetch(np.array([40])).max()) == (np.uint16, 12345)
    assert number_of(pack.fetch(np.array([7]))[0] / 257) == 7


def test_sequential_sources_cannot_be_listed(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", sample(1))
    with pytest.raises(DataError, match=r"can only be read one after another, .*: diffae data prepare images .*a\.tar"):
        open_listed(path)
    assert open_listed(layouts.write(tmp_path / "in", {"a.png": encoded(1)})).names == ["a.png"]
