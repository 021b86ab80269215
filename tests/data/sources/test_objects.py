"""An object of the user's own is a source: a key, and names, images and labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from layouts import encoded, number_of, picture
from PIL import Image

from diffae.data.build import Building, build_pack, prepare_pack
from diffae.data.images import ImageSpec
from diffae.data.sources import Item, Source, open_source
from diffae.errors import DataError


class Drawings:
    """Entry k is (name, image, labels) of number k."""

    def __init__(self, *entries: Any, key: str = "drawings 1") -> None:
        self.entries, self.key = entries, key

    def __iter__(self) -> Iterator[Any]:
        return iter(self.entries)


def numbers(pack: Any) -> list[int]:
    return [number_of(image) for image in pack.fetch(np.arange(len(pack)))]


def test_images_of_every_form_and_their_labels(tmp_path: Path) -> None:
    layouts.write(tmp_path, {"2.png": encoded(2)})
    source = Drawings(
        ("zero", picture(0), {"age": 3, "kind": "cat", "seen": True}),
        ("one", Image.fromarray(picture(1)), {"kind": "dog", "age": None, "later": 5}),
        ("two", tmp_path / "2.png"),
        ("three", encoded(3), {}),
    )
    pack = build_pack(source, tmp_path / "packs", size=8)
    assert list(pack.names) == ["zero", "one", "two", "three"]
    assert numbers(pack) == [0, 1, 2, 3]
    assert pack.path.name.startswith("Drawings-8x3-")
    assert pack.labels is not None
    assert pack.labels.columns == ("age", "kind", "seen")
    assert pack.labels.classes["kind"] == ("cat", "dog")
    assert np.array_equal(pack.labels.column("age"), [3, np.nan, np.nan, np.nan], equal_nan=True)


def test_a_pack_is_reused_as_long_as_the_key_is_the_same(tmp_path: Path) -> None:
    entries = [(f"{k}", picture(k)) for k in range(5)]
    first = build_pack(Drawings(*entries), tmp_path, size=8)
    assert build_pack(Drawings(*entries[:3]), tmp_path, size=8).path == first.path  # by the key alone
    assert build_pack(Drawings(*entries[:3], key="drawings 2"), tmp_path, size=8).path != first.path
    assert first.labels is None


def test_it_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.data.build.parallel._CHUNK", 2)
    entries = [(f"{k}", picture(k)) for k in range(8)]
    bad = Drawings(*entries[:5], ("5", "gone.png"), *entries[6:])
    spec, building = ImageSpec(size=8), Building(1, strict=True)
    with pytest.raises(DataError, match=r"image 5: cannot be opened \(.*gone\.png"):
        prepare_pack(open_source(bad), tmp_path / "a.pack", spec, source="a", building=building)
    opened = open_source(Drawings(*entries))
    items = opened.items
    starts = []
    monkeypatch.setattr(opened, "items", lambda start=0: (starts.append(start), items(start))[1])
    assert numbers(prepare_pack(opened, tmp_path / "a.pack", spec, source="a", building=building)) == list(range(8))
    assert starts == [4]


def test_unusable_images_are_left_out(tmp_path: Path) -> None:
    source = Drawings(("a", picture(1)), ("b", 7), ("c", b"no image"), ("d", np.zeros((2, 2, 2, 3), np.uint8)))
    pack = build_pack(source, tmp_path, size=8, at_least=1)
    assert list(pack.names) == ["a"]
    reasons = dict(pack.skipped)
    assert "image b: is a int, it must be a Pillow image, an array" in reasons["b"]
    assert "image c: is not a JPEG" in reasons["c"]
    assert "image d: array has shape (2, 2, 2, 3)" in reasons["d"]


class Counted(Drawings):
    """With a length, and a name for the pack."""

    name = "mine"

    def __len__(self) -> int:
        return len(self.entries)


def test_a_length_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    source = Counted(("a", picture(1)))
    assert (open_source(source).count, open_source(source).path.stem) == (1, "mine")
    with pytest.raises(DataError, match="images mine: 1 of 1 images can be used, at least 2 are needed"):
        build_pack(source, tmp_path, size=8)


class Whole:
    """A Source in full, which is used as it is."""

    path: Path = Path("whole")
    columns: tuple[str, ...] = ()
    count: int | None = 2

    def items(self, start: int = 0) -> Iterator[Item]:
        read = open_source(Drawings(("a", picture(4)), ("b", picture(5)))).items(start)
        return (item._replace(name=item.name * 2) for item in read)

    def fingerprint(self) -> Iterator[tuple]:
        yield ("whole", 1)


def test_a_whole_source_is_used_as_it_is(tmp_path: Path) -> None:
    assert isinstance(Whole(), Source)
    pack = build_pack(Whole(), tmp_path, size=8)
    assert (list(pack.names), numbers(pack)) == (["aa", "bb"], [4, 5])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, r"images are a int, they must be a path or an object with a string `key`"),
        ([("a", picture(1))], r"images are a list, they must be"),
        (Drawings(picture(1)), r"images Drawings: item 0 is a ndarray, it must be \(name, image\)"),
        (Drawings(("a",)), r"item 0 is a tuple, it must be"),
        (Drawings((1, picture(1))), r"item 0 is a tuple, it must be"),
        (Drawings(("a", picture(1)), ("b", picture(1), 7)), r"item 1 is a tuple, it must be"),
    ],
)
def test_wrong_objects(tmp_path: Path, source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build_pack(source, tmp_path, size=8)


def test_labels_of_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"label 'age' of a is a list, it must be a number, a truth value, a word or None"
    ):
        build_pack(Drawings(("a", picture(1), {"age": [1]})), tmp_path, size=8)
