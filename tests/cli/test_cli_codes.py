"""`encode` and `decode` of folders and tables: resumed, shared by processes, and read by other programs."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import SIZE, Run, first, one_line, save_model
from PIL import Image

from diffae.data.images import load_image
from diffae.latent import code_folder
from diffae.latent.attributes import AttributeDirections
from diffae.latent.code_folder import CodeFolder
from diffae.latent.codes import load_codes
from diffae.model import DiffusionAutoencoder

parquet = pytest.importorskip("pyarrow.parquet")

MANY = 150
"""Images in three shards of at most 64."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_folder, "_MOST", 64)


@pytest.fixture
def photos(run: Run) -> Path:
    """An array of images in the present folder."""
    np.save("photos.npy", np.random.default_rng(0).integers(0, 256, (MANY, SIZE, SIZE, 3)).astype(np.uint8))
    return Path("photos.npy")


def contents(folder: str) -> dict[str, bytes]:
    """The files of a folder but for hidden ones."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if not path.name.startswith(".")}


def launched(processes: int, *commands: tuple[object, ...]) -> list[tuple[int, str, str]]:
    """Run command lines in several processes at once, as torchrun does; shards are small there too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = "import sys\nfrom diffae.latent import code_folder\ncode_folder._MOST = 64\nfrom diffae.cli import main\n"
    script += f"sys.exit(max(map(main, {[[*map(str, words)] for words in commands]})))"
    size = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, **size, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    return [(process.wait(120), *process.communicate()) for process in started]


def test_a_folder_holds_what_a_file_holds_and_decodes_to_the_same(run: Run, model: Path, photos: Path) -> None:
    words = ("--stochastic", "--steps", "2", "--inversion", "explicit")
    assert run("encode", model, photos, "--out", "one.safetensors", *words)[0] == 0
    code, out, err = run("encode", model, photos, "--out", "codes", *words)
    assert (code, out) == (0, "z_sem and x_T of 150 images written to codes, in 3 shards.\n"), err
    one, folder = load_codes("one.safetensors"), load_codes("codes")
    assert one.names == folder.names
    for name in ("z_sem", "x_T", "calls"):
        assert np.array_equal(getattr(one, name), getattr(folder, name)), name
    for source, to in (("one.safetensors", "a"), ("codes", "b")):
        assert run("decode", model, source, "--out", to)[0] == 0
    assert contents("a") == contents("b")
    assert len(contents("a")) == MANY
    assert not list(Path("b").glob(".*"))


def interrupted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: int) -> None:
    """Let a function fail at its call number `after`."""
    original, calls = getattr(owner, name), []

    def fail(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(owner, name, fail)


def test_encoding_resumes_with_the_shard_that_was_not_written(run: Run, model: Path, photos: Path) -> None:
    assert run("encode", model, photos, "--out", "whole")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_folder, "_MOST", 64)
        interrupted(patch, CodeFolder, "write", 1)
        assert run("encode", model, photos, "--out", "codes")[0] == 130
    code, _, err = run("decode", model, "codes", "--out", "images")
    assert (code, "codes is not complete" in one_line(err)) == (2, True)
    encoded: list[int] = []
    encode = DiffusionAutoencoder.encode_semantic
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_folder, "_MOST", 64)
        patch.setattr(
            DiffusionAutoencoder, "encode_semantic", lambda self, x: (encoded.append(len(x)), encode(self, x))[1]
        )
        assert run("encode", model, photos, "--out", "codes")[0] == 0
        assert encoded == [64, 22]
        assert contents("codes") == contents("whole")
        assert run("encode", model, photos, "--out", "codes")[0] == 0  # complete: nothing is encoded again
        assert encoded == [64, 22]


def test_decoding_resumes_and_repeats(run: Run, model: Path, photos: Path) -> None:
    assert run("encode", model, photos, "--out", "codes", "--steps", "2")[0] == 0
    assert run("decode", model, "codes", "--out", "whole")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, DiffusionAutoencoder, "decode", 2)
        assert run("decode", model, "codes", "--out", "images")[0] == 130
    Path("images/00000003-decoded.png").unlink()
    decoded: list[int] = []
    decode = DiffusionAutoencoder.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            DiffusionAutoencoder,
            "decode",
            lambda self, code, **how: (decoded.append(len(code)), decode(self, code, **how))[1],
        )
        assert run("decode", model, "codes", "--out", "images")[0] == 0
        assert decoded == [64, 22]  # the part of the image that was removed, and the one that was interrupted
        assert contents("images") == contents("whole")
        assert run("decode", model, "codes", "--out", "images", "--seed", "1")[0] == 0  # others are written anew
        assert sum(decoded) == 64 + 22 + MANY
        assert contents("images") != contents("whole")


def test_other_images_or_another_model_are_refused(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    assert run("encode", model, photos, "--out", "codes")[0] == 0
    before = contents("codes")
    other = save_model(tmp_path / "other", z_sem_channels=5)
    for words, message in (
        ((other, photos), "codes of another model"),
        ((model, photos, "--steps", "9"), "found with other sampling settings"),
        ((model, photos, "--stochastic"), "that differ in --stochastic"),
    ):
        code, _, err = run("encode", *words, "--out", "codes")
        assert (code, message in one_line(err)) == (2, True)
    np.save(photos, np.load(photos)[:100])
    code, _, err = run("encode", model, photos, "--out", "codes")
    assert (code, "of other images" in one_line(err)) == (2, True)
    assert contents("codes") == before
    code, _, err = run("decode", other, "codes", "--out", "images")
    assert (code, "belongs to a model with fingerprint" in one_line(err)) == (2, True)


def test_two_processes_write_what_one_writes(run: Run, model: Path, photos: Path) -> None:
    assert run("encode", model, photos, "--out", "one", "--steps", "2")[0] == 0
    assert run("decode", model, "one", "--out", "a")[0] == 0
    encode, decode = ("encode", model, photos, "--out", "two", "--steps", "2"), ("decode", model, "two", "--out", "b")
    (code, out, err), (other, silent, _) = launched(2, encode, decode)
    assert (code, other) == (0, 0), err
    assert (out.splitlines()[0], silent) == ("z_sem of 150 images written to two, in 3 shards.", "")
    assert contents("one") == contents("two")
    assert contents("a") == contents("b")


@pytest.mark.slow
def test_processes_end_when_one_of_them_fails(run: Run, model: Path) -> None:
    Path("photos").mkdir()
    Path("photos/bad.png").write_bytes(b"no image")
    (code, _, err), (other, _, waiting) = launched(2, ("encode", model, "photos", "--out", "codes"))
    assert (code, "none can be used, image bad.png" in one_line(err)) == (2, True)
    [line] = waiting.splitlines()
    assert (other, line.startswith("diffae: rank 1: error: another process of this job ended")) == (2, True)


def test_one_file_is_written_by_one_process(run: Run, model: Path, photos: Path, monkeypatch: Any) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    code, _, err = run("encode", model, photos, "--out", "codes.parquet")
    assert (code, "`diffae encode` to one file runs in one process" in one_line(err)) == (2, True)


def test_images_that_can_only_be_read_in_sequence(run: Run, model: Path, faces: Path) -> None:
    with tarfile.open("faces.tar", "w") as archive:
        for path in first(faces, 5):
            archive.add(path, path.name)
        archive.addfile(tarfile.TarInfo("bad.png"))
    code, out, err = run("encode", model, "faces.tar", "--out", "codes")
    assert (code, "z_sem of 5 images" in out) == (0, True), err
    assert "left out 1 image that cannot be read" in err
    assert load_codes("codes").names == [path.name for path in first(faces, 5)]
    _, _, again = run("encode", model, "faces.tar", "--out", "codes")
    assert "left out 1 image that cannot be read" in again


def test_a_folder_of_unreadable_images(run: Run, model: Path) -> None:
    Path("photos").mkdir()
    Path("photos/bad.png").write_bytes(b"no image")
    for out in ("codes", "codes.parquet", "codes.csv", "codes.safetensors"):
        code, _, err = run("encode", model, "photos", "--out", out)
        assert (code, "images photos: none can be used, image bad.png" in one_line(err)) == (2, True)
        assert not Path(out).is_file()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a binary attribute and a number."""
    folder = save_model(tmp_path_factory.mktemp("model") / "fitted")
    z_sem = np.random.default_rng(0).normal(size=(60, 6))
    model = DiffusionAutoencoder.from_pretrained(folder)
    labels = {"smiling": (z_sem[:, 0] > 0).astype(float), "age": z_sem[:, 1]}
    AttributeDirections().fit(z_sem, labels).save(folder, model.fingerprint())
    return folder


LABELS = "file,hair,age,smiling\n00000001,red,31,1\nother.png,blond,,0\n00000149,blond,42,\n"


@pytest.mark.parametrize("out", ["codes.parquet", "codes", "codes.csv"])
def test_tables_hold_labels_and_read_outs(run: Run, fitted: Path, photos: Path, out: str) -> None:
    import pandas

    Path("labels.csv").write_text(LABELS)
    assert run("encode", fitted, photos, "--out", out, "--labels", "labels.csv", "--readouts")[0] == 0
    frame = pandas.read_csv(out, dtype={"name": str}) if out.endswith(".csv") else table_of(out).to_pandas()
    assert len(frame) == MANY
    assert list(frame["name"][:2]) == ["00000000", "00000001"]
    assert frame["hair"].dropna().to_dict() == {1: "red", 149: "blond"}
    assert frame["age"].dropna().to_dict() == {1: 31, 149: 42}
    assert frame["smiling"].dropna().to_dict() == {1: 1}
    z_sem = (
        frame[[f"z_sem_{k}" for k in range(6)]].to_numpy() if out.endswith(".csv") else np.stack(list(frame["z_sem"]))
    )
    found = AttributeDirections.load(fitted)
    np.testing.assert_allclose(frame["read_age"], found.read(z_sem)[:, 1], rtol=1e-4)
    np.testing.assert_allclose(frame["read_smiling"], 1 / (1 + np.exp(-found.read(z_sem)[:, 0])), rtol=1e-4)


def table_of(path: str) -> Any:
    """The table of a file, or of the shards in a folder."""
    folder = Path(path)
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else [folder]
    import pyarrow

    return pyarrow.concat_tables([parquet.read_table(file).replace_schema_metadata() for file in files])


def test_the_vectors_of_all_kinds_of_output_agree(run: Run, model: Path, photos: Path) -> None:
    import datasets
    import pandas
    import pyarrow

    outs = ("codes.npy", "codes.csv", "codes.parquet", "codes", "codes.safetensors")
    for out in outs:
        assert run("encode", model, photos, "--out", out)[0] == 0
    expected = load_codes("codes.safetensors").z_sem.numpy()  # pyright: ignore
    assert np.array_equal(np.load("codes.npy"), expected)
    frame = pandas.read_csv("codes.csv", dtype={"name": str})
    np.testing.assert_allclose(frame.drop(columns="name").to_numpy(), expected, rtol=1e-6)
    assert np.array_equal(np.stack(pandas.read_parquet("codes.parquet")["z_sem"]), expected)  # pyright: ignore
    assert table_of("codes").schema.field("z_sem").type == pyarrow.list_(pyarrow.float32(), 6)
    files = [str(path) for path in sorted(Path("codes").glob("*.parquet"))]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir="cache")
    assert np.array_equal(np.array(loaded.with_format("numpy")["z_sem"][:]), expected)


def test_predict_writes_read_outs_of_new_images(run: Run, fitted: Path, faces: Path) -> None:
    code, out, err = run("attributes", "predict", fitted, faces, "--out", "readouts.csv")
    assert (code, out) == (0, "Read-outs of 24 images written to readouts.csv.\n"), err
    rows = list(csv.DictReader(Path("readouts.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == sorted(path.name for path in faces.glob("*.png"))
    model = DiffusionAutoencoder.from_pretrained(fitted)
    [read] = AttributeDirections.load(fitted).read(model.encode_semantic(faces / rows[7]["name"]))
    assert float(rows[7]["smiling"]) == pytest.approx(1 / (1 + np.exp(-read[0])), rel=1e-4)
    assert float(rows[7]["age"]) == pytest.approx(read[1], rel=1e-4)
    assert run("attributes", "predict", fitted, faces, "--out", "readouts.parquet")[0] == 0
    assert table_of("readouts.parquet").column_names == ["name", "smiling", "age"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("encode", "{model}", "{faces}", "--out", "codes.npy", "--stochastic"), "a table holds no x_T; name a folder"),
        (("encode", "{model}", "{faces}", "--out", "codes.npy", "--readouts"), "it holds codes alone; name a folder"),
        (("encode", "{model}", "{faces}", "--out", "codes", "--readouts"), "has no attributes yet"),
        (("encode", "{model}", "{faces}", "--out", "{faces}"), "it is one of the files given to this command"),
        (("encode", "{model}", "{faces}", "--out", "codes", "--labels", "bad.csv"), "the column 'z_sem' is in the tab"),
        (("encode", "{model}", "{faces}", "--out", "codes", "--labels", "none.csv"), "labels none.csv: cannot be read"),
        (("decode", "{model}", "{faces}", "--out", "images"), "holds no codes: it has no codes.json"),
        (("decode", "{model}", "codes.parquet", "--out", "images"), "codes.parquet does not exist"),
        (("attributes", "predict", "{model}", "{faces}", "--out", "a.txt"), "the suffix must be one of .csv, .parquet"),
        (("attributes", "predict", "{model}", "{faces}", "--out", "a.csv"), "has no attributes yet"),
    ],
)
def test_bad_input(run: Run, model: Path, faces: Path, words: tuple[str, ...], message: str) -> None:
    Path("bad.csv").write_text("file,z_sem\na.png,1\n")
    code, _, err = run(*(word.format(model=model, faces=faces) for word in words))
    assert (code, message in one_line(err)) == (2, True), err
    assert {path.name for path in Path().iterdir()} <= {"bad.csv"}


def test_without_pyarrow_the_extra_is_named(run: Run, model: Path, photos: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for out in ("codes", "codes.parquet"):
        code, _, err = run("encode", model, photos, "--out", out)
        assert (code, "pip install 'diffae[tables]'" in one_line(err)) == (2, True)
    for out in ("codes.safetensors", "codes.csv", "codes.npy"):
        assert run("encode", model, photos, "--out", out)[0] == 0


def test_metadata_of_files_survive_the_folder(run: Run, model: Path) -> None:
    Path("photos").mkdir()
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (SIZE, SIZE)).astype(np.uint16))
    deep.save("photos/deep.png")
    assert run("encode", model, "photos", "--out", "codes", "--stochastic", "--steps", "2")[0] == 0
    assert run("decode", model, "codes", "--out", "images")[0] == 0
    [written] = contents("images")
    assert load_image(f"images/{written}").dtype == np.uint16
