"""Labels in DataFrames, Arrow tables and Parquet files are read as the CSV that they would be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffae.data.labels import LabelTable
from diffae.errors import ConfigError, DataError
from diffae.latent.attributes import AttributeDirections

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")
feather = pytest.importorskip("pyarrow.feather")

COLUMNS: dict[str, list[Any]] = {
    "age": [31.5, None, -4.0],
    "file": ["a/1.png", "a/2.png", "3.png"],
    "smiling": [True, False, None],
    "hair": ["red", None, "dark, long"],
    "z_sem": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    "count": [3, 4, 5],
}


def as_csv(folder: Path) -> LabelTable:
    rows = ["age,file,smiling,hair,count", "31.5,a/1.png,True,red,3", ",a/2.png,False,,4", '-4,3.png,,"dark, long",5']
    (folder / "labels.csv").write_text("\n".join(rows))
    return LabelTable.read(folder / "labels.csv")


def same(table: LabelTable, expected: LabelTable) -> bool:
    facts = ("names", "columns", "kinds", "classes")
    equal = all(getattr(table, name) == getattr(expected, name) for name in facts)
    return equal and np.array_equal(table.values, expected.values, equal_nan=True)


def test_frames_and_files_of_every_kind(tmp_path: Path) -> None:
    table, frame = pyarrow.table(COLUMNS), pandas.DataFrame(COLUMNS)
    frame.to_parquet(tmp_path / "labels.parquet")
    feather.write_feather(table, str(tmp_path / "labels.feather"))
    expected = as_csv(tmp_path)
    indexed = frame.drop(columns="file").set_axis(COLUMNS["file"])
    categories = frame.astype({"hair": "category"})
    polars = pytest.importorskip("polars").DataFrame(COLUMNS)
    files = [tmp_path / "labels.parquet", str(tmp_path / "labels.feather")]
    for given in (table, frame, indexed, categories, polars, *files):
        assert same(LabelTable.read(given), expected), given


def test_the_rows_of_fitted_labels_are_the_images() -> None:
    z_sem = np.random.default_rng(0).normal(size=(40, 3))
    values = {"smiling": z_sem[:, 0] > 0, "age": z_sem[:, 1]}
    frame = pandas.DataFrame({"file": [f"{k}.png" for k in range(40)], **values})
    expected = AttributeDirections().fit(z_sem, values)
    for labels in (frame, pyarrow.table(frame), frame.drop(columns="file")):
        found = AttributeDirections().fit(z_sem, labels)
        assert found.names_ == expected.names_
        np.testing.assert_array_equal(found.weights_, expected.weights_)
    with pytest.raises(DataError, match="have 39 rows for 40 images; give one for each"):
        AttributeDirections().fit(z_sem, frame[:39])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"file": ["a", "a"]}, "names the image 'a' twice"),
        ({"file": []}, "labels given as a table: no labels found"),
        ({}, "no labels found"),
        ({"file": ["a", "b"], "age": [1, "x"]}, "cannot be read as a table"),
    ],
)
def test_bad_frames(labels: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelTable.read(pandas.DataFrame(labels))


def test_damaged_files(tmp_path: Path) -> None:
    for name in ("labels.parquet", "labels.feather", "none.parquet"):
        if not name.startswith("none"):
            (tmp_path / name).write_bytes(b"PAR1 and no more")
        with pytest.raises(DataError, match=rf"labels .*{name}: cannot be read as a table"):
            LabelTable.read(tmp_path / name)


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pandas.DataFrame(COLUMNS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'diffae\[tables\]'"):
        LabelTable.read(frame)
