"""Every kind of label file becomes a table, and its rows are matched to images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from diffae.data.labels import LabelTable
from diffae.errors import DataError

NAN = np.nan


def read(tmp_path: Path, text: str, name: str = "labels.csv") -> LabelTable:
    (tmp_path / name).write_bytes(text.encode("utf-8"))
    return LabelTable.read(tmp_path / name)


def test_csv_of_every_kind(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "file,split,Male,Smiling,Bald,age,hair\n"
        "a/1.png,train,1,-1,True,31.5,red\n"
        "a/2.png,val,0,1,false,,\n"
        '"b, c.png",train,,1,,-4,"dark, long"\n',
    )
    assert table.names == ("a/1.png", "a/2.png", "b, c.png")
    assert table.columns == ("split", "Male", "Smiling", "Bald", "age", "hair")
    kinds = ["class", "binary", "binary", "binary", "number", "class"]
    assert table.kinds == dict(zip(table.columns, kinds, strict=True))
    assert table.classes == {"split": ("train", "val"), "hair": ("dark, long", "red")}
    expected = [[0, 1, 0, 1, 31.5, 1], [1, 0, 1, 0, NAN, NAN], [0, NAN, 1, NAN, -4, 0]]
    assert np.array_equal(table.values, expected, equal_nan=True)
    assert len(table) == 3


@pytest.mark.parametrize("text", ["Male,image\n1,a.png\n0,b.png\n", "picture;Male\r\na.png;1\r\n\r\nb.png; 0\r\n"])
def test_file_column_and_separator(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, "\ufeff" + text)
    assert table.names == ("a.png", "b.png")
    assert table.columns == ("Male",)
    assert table.values.tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        ("0 1 1", "binary", [0, 1, 1]),
        ("-1 1 -1", "binary", [0, 1, 0]),
        ("1.0 0.0 1", "binary", [1, 0, 1]),
        ("-1 0 1", "number", [-1, 0, 1]),
        ("yes no NA", "binary", [1, 0, NAN]),
        ("1 2 3", "number", [1, 2, 3]),
        ("1e3 nan ?", "number", [1000, NAN, NAN]),
        ("na na na", "number", [NAN, NAN, NAN]),
        ("x y x", "class", [0, 1, 0]),
        ("yes no maybe", "class", [2, 1, 0]),
    ],
)
def test_kinds(tmp_path: Path, cells: str, kind: str, values: list[float]) -> None:
    rows = "".join(f"{number}.png,{cell}\n" for number, cell in enumerate(cells.split()))
    table = read(tmp_path, "file,column\n" + rows)
    assert table.kinds == {"column": kind}
    assert np.array_equal(table.column("column"), values, equal_nan=True)


def test_celeba(tmp_path: Path) -> None:
    text = "2\n5_o_Clock_Shadow Male Smiling \n000001.jpg -1  1  1\n000002.jpg  1 -1 -1\n"
    table = read(tmp_path, text, "list_attr_celeba.txt")
    assert table.names == ("000001.jpg", "000002.jpg")
    assert table.columns == ("5_o_Clock_Shadow", "Male", "Smiling")
    assert set(table.kinds.values()) == {"binary"}
    assert table.values.tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no labels found"),
        ("file,Male\n", "no labels found"),
        ("file,Male\na.png,1,2\n", r"row of 'a\.png' has 3 values, the first line requires 2"),
        ("file,Male,Male\na.png,1,0\n", "column 'Male' twice"),
        ("file,Male\na.png,1\na.png,0\n", r"image 'a\.png' twice"),
        ("3\nMale\na.png 1\nb.png 1\n", "first line says 3 rows, there are 2"),
        ("1\nMale Bald\na.png 1\n", "has 2 values, the second line requires 3"),
        ('file,Male\n"a.png,1\n', "is not a CSV"),
        ("file," + ",".join(map(str, range(10**6))) + "\n", "999999 columns|1000000 columns"),
        (f"file,x\na.png,{'x' * 200_000}\n", "is not a CSV"),
    ],
)
def test_refused_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("cell", "value"), [("9" * 4301, None), ("1e308", 1e308), ("1e999", None), ("[/x]\x1b[2J", None), ("\0", None)]
)
def test_odd_numbers_are_read_or_are_words(tmp_path: Path, cell: str, value: float | None) -> None:
    table = read(tmp_path, f"file,v\na.png,{cell}\nb.png,0.5\n")
    if value is not None:
        assert table.column("v").tolist() == [value, 0.5]
    else:
        assert table.kinds == {"v": "class"}
    assert read(tmp_path, f"{cell}\nMale\na.png 1\n").columns == ()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_and_a_device_are_refused(tmp_path: Path) -> None:
    """A pipe would wait for a writer, and /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "zero.csv"):
        with pytest.raises(DataError, match=rf"{name}: is not a regular file; save it as one"):
            LabelTable.read(tmp_path / name)


def test_numbers_among_words_are_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        table = read(tmp_path, "file,kind\n0.png,7\n1.png,cat\n2.png,7\n3.png,inf\n")
        assert (table.kinds, table.classes) == ({"kind": "class"}, {"kind": ("7", "cat", "inf")})
        assert table.column("kind").tolist() == [0, 1, 0, 2]
    assert len(caplog.messages) == 1  # said once
    assert "labels.csv: column 'kind' holds 'cat' among numbers; all are read as names of classes" in caplog.text


def test_a_column_of_too_many_words_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = read(tmp_path, "file,note,age\n" + "".join(f"{n}.png,word{n},{n}\n" for n in range(101)))
    assert table.columns == ("age",)
    assert "column 'note' must hold numbers alone, or at most 100 different words, it holds 'word0'" in caplog.text


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("a.csv", "gone.csv"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read as text"):
            LabelTable.read(tmp_path / name)


def table_of(*names: str) -> LabelTable:
    values = np.arange(len(names), dtype=np.float64)[:, None]
    return LabelTable(names, ("v",), values, {"v": "number"})


def test_align_by_path_then_file_name_then_stem() -> None:
    values = table_of("x/1.png", "2.png", "./y/3.png", "4.jpg").align(
        ["y/3.png", "x/1.png", "z/1.png", "deep/2.png", "y/4.png"]
    )
    assert np.array_equal(values[:, 0], [2, 0, NAN, 1, 3], equal_nan=True)


def test_labels_of_missing_files_are_counted_and_listed() -> None:
    table = table_of("1.png", "2.png", "3.png", "4.png", "5.png")
    message = r"4 of 5 labels name files that are not among the 2 images: 2\.png, 3\.png, 4\.png, \.\.\.; "
    with pytest.raises(DataError, match=message):
        table.align(["1.png", "other.png"])
    with pytest.raises(DataError, match="1 of 5 labels"):
        table.align(["1.png"], absent=["2.png", "a/3.png", "4.png"])
    assert table.align(["1.png"], absent=["2.png", "a/3.png", "4.png", "5.png"]).tolist() == [[0]]


def test_ambiguous_names_are_refused() -> None:
    with pytest.raises(DataError, match=r"'1\.png', which fits several images or rows"):
        table_of("1.png").align(["a/1.png", "b/1.png"])
    with pytest.raises(DataError, match=r"'a/1\.png', which fits several"):
        table_of("a/1.png", "b/1.png").align(["1.png", "2.png"])


def test_misspelt_columns_get_a_suggestion() -> None:
    table = LabelTable(("a",), ("Smiling", "Male"), np.zeros((1, 2)), {"Smiling": "binary", "Male": "binary"})
    with pytest.raises(DataError, match="'Smilling' does not exist; did you mean 'Smiling'"):
        table.column("Smilling")
    with pytest.raises(DataError, match="'Zzz' does not exist; choose from Smiling, Male"):
        table.column("Zzz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((2, 1))}, r"shape \(2, 1\), there are 1 names and 1 columns"),
        ({"names": ("a", "a"), "values": np.zeros((2, 1))}, "names the image 'a' twice"),
        ({"kinds": {"c": "colour"}}, "of kind 'colour'"),
        ({"kinds": {}}, "of kind None"),
        ({"kinds": {"c": "class"}}, "a class with its classes"),
    ],
)
def test_inconsistent_tables(changes: dict, message: str) -> None:
    good = {"names": ("a",), "columns": ("c",), "values": np.zeros((1, 1)), "kinds": {"c": "number"}}
    with pytest.raises(DataError, match=message):
        LabelTable(**{**good, **changes})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    text = 'file,split,Male,age\na/1.png,train,1,0.1\n"b, c.png",val,,1e-17\n3.png,,0,-12\n'
    table = read(tmp_path, text)
    table.write_csv(tmp_path / "again.csv")
    again = LabelTable.read(tmp_path / "again.csv")
    assert (again.names, again.columns, again.kinds, again.classes) == (
        table.names, table.columns, table.kinds, table.classes,
    )  # fmt: skip
    assert np.array_equal(again.values, table.values, equal_nan=True)
    with pytest.raises(DataError, match="cannot be written"):
        table.write_csv(tmp_path / "labels.csv" / "a.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.csv", "labels.csv"]
