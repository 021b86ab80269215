"""Commands read and write addresses of fsspec as they do local files: in memory, and on a local S3 server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from cli_helpers import SIZE, Run, one_line, save_model
from PIL import Image

from diffae import checkpoint, remote
from diffae.data.pack import Pack
from diffae.data.sources import open_source
from diffae.latent import code_folder
from diffae.latent.code_folder import CodeFolder
from diffae.latent.codes import load_codes

pytest.importorskip("pyarrow")

SECRET = "wJalrXUtnFEMI-not-a-real-key"
IMAGES = 70
"""In two shards."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The endpoint of an S3 server in this process."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    started = moto.ThreadedMotoServer(port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty place at an address."""
    if request.param == "s3":
        for name, value in {
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": request.getfixturevalue("server"),
        }.items():
            monkeypatch.setenv(name, value)
    files = fsspec.filesystem(request.param, skip_instance_cache=True)
    files.mkdir("bucket")
    yield f"{request.param}://bucket"
    files.rm("bucket", recursive=True)


@pytest.fixture
def photos(bucket: str) -> str:
    """Images at an address, one of them damaged, and files that are none."""
    files, root = fsspec.core.url_to_fs(f"{bucket}/photos")
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3)).astype(np.uint8)
    for name, image in zip([f"a/{k:02d}.png" for k in range(IMAGES)], pixels, strict=True):
        with files.open(f"{root}/{name}", "wb") as file:
            Image.fromarray(image).save(file, "png")
    for name in ("bad.png", "notes.txt", "a/.hidden.png"):
        files.pipe_file(f"{root}/{name}", b"no image")
    return f"{bucket}/photos"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_folder, "_MOST", 64)


def below(address: str) -> dict[str, bytes]:
    """The files at an address."""
    files, root = fsspec.core.url_to_fs(address)
    files.invalidate_cache()
    return {name.rpartition(f"{root}/")[2]: files.cat_file(name) for name in files.find(root)}


def test_encode_and_decode_at_an_address(run: Run, model: Path, photos: str, bucket: str) -> None:
    words = ("--stochastic", "--steps", "2", "--inversion", "explicit")
    code, out, err = run("encode", model, photos, "--out", f"{bucket}/codes", *words)
    assert (code, out) == (0, f"z_sem and x_T of 70 images written to {bucket}/codes, in 2 shards.\n"), err
    assert "left out 1 image that cannot be read" in err
    names = ["codes-000000.parquet", "codes-000001.parquet", "codes.json"]
    assert sorted(below(f"{bucket}/codes")) == [*names, "x_T-000000.safetensors", "x_T-000001.safetensors"]
    files, root = fsspec.core.url_to_fs(photos)
    files.get(root, "here", recursive=True)
    assert run("encode", model, "here", "--out", "codes", *words)[0] == 0
    found, expected = load_codes(f"{bucket}/codes"), load_codes("codes")
    assert found.names == expected.names == [f"a/{k:02d}.png" for k in range(IMAGES)]
    assert np.array_equal(found.z_sem, expected.z_sem)  # pyright: ignore
    assert np.array_equal(found.x_T, expected.x_T)  # pyright: ignore
    assert run("decode", model, f"{bucket}/codes", "--out", f"{bucket}/decoded")[0] == 0
    assert run("decode", model, "codes", "--out", "decoded")[0] == 0
    assert below(f"{bucket}/decoded") == {
        path.relative_to("decoded").as_posix(): path.read_bytes() for path in Path("decoded").rglob("*.png")
    }
    for text in (out, err, *(data.decode("latin1") for name, data in below(f"{bucket}/codes").items())):
        assert SECRET not in text


def test_encoding_to_an_address_resumes(run: Run, model: Path, photos: str, bucket: str) -> None:
    assert run("encode", model, photos, "--out", f"{bucket}/whole")[0] == 0
    written: list[int] = []
    write = CodeFolder.write

    def fail(self: CodeFolder, shard: Any, columns: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(shard.number)
        write(self, shard, columns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_folder, "_MOST", 64)
        patch.setattr(CodeFolder, "write", fail)
        assert run("encode", model, photos, "--out", f"{bucket}/codes")[0] == 130
    before = below(f"{bucket}/codes")
    assert run("encode", model, photos, "--out", f"{bucket}/codes")[0] == 0
    after = below(f"{bucket}/codes")
    assert after["codes-000000.parquet"] == before["codes-000000.parquet"]
    assert after == below(f"{bucket}/whole")


@pytest.mark.parametrize("name", ["codes.parquet", "codes.csv", "codes.npy", "codes.safetensors"])
def test_one_file_at_an_address(run: Run, model: Path, photos: str, bucket: str, name: str) -> None:
    assert run("encode", model, photos, "--out", f"{bucket}/{name}")[0] == 0
    assert run("encode", model, photos, "--out", name)[0] == 0
    if name.endswith(".safetensors"):  # the order of its header is not fixed
        assert np.array_equal(load_codes(f"{bucket}/{name}").z_sem, load_codes(name).z_sem)  # pyright: ignore
    else:
        assert below(bucket)[name] == Path(name).read_bytes()


def test_a_pack_of_images_at_an_address(run: Run, photos: str, bucket: str) -> None:
    words = ("data", "prepare", "images", photos, "--size", SIZE)
    assert run(*words, "--out", "images.pack", "--incomplete")[0] == 0
    pack = Pack.open(Path("images.pack"))
    assert len(pack) == IMAGES
    assert SECRET not in json.dumps(pack.index)
    for command in (words, ("train", photos), ("sample", "model")):
        code, _, err = run(*command, "--out", f"{bucket}/other")
        assert (code, f"out is {bucket}/other: must be on a disk" in one_line(err)) == (2, True)
    code, _, err = run("info", f"{bucket}/run")
    assert (code, f"{bucket}/run: a run must be on a disk" in one_line(err)) == (2, True)


def test_images_that_change_are_other_images(photos: str) -> None:
    before = list(open_source(photos).fingerprint())
    files, root = fsspec.core.url_to_fs(photos)
    assert list(open_source(photos).fingerprint()) == before
    files.pipe_file(f"{root}/bad.png", b"as bad!!")
    files.invalidate_cache()
    assert list(open_source(photos).fingerprint()) != before


def test_what_is_not_there(run: Run, model: Path, bucket: str) -> None:
    for words, message in (
        (("encode", model, f"{bucket}/none", "--out", "codes"), f"images {bucket}/none: there is no .jpg"),
        (("decode", model, f"{bucket}/none", "--out", "images"), "does not exist: name a codes file"),
        (("encode", model, "x.png", "--out", "memory://someone:word@host/codes"), "must have no user, password"),
        (("encode", model, "nosuch://host/photos", "--out", "codes"), "nosuch://host/photos: "),
    ):
        code, out, err = run(*words)
        assert (code, message in one_line(err)) == (2, True), err
        assert "someone:word" not in out + err


def half_written(path: Path) -> None:
    with checkpoint.written_beside(path) as temporary:
        temporary.write_text("half")
        raise ValueError("stopped")


def test_a_failed_write_leaves_nothing(bucket: str) -> None:
    with pytest.raises(ValueError, match="stopped"):
        half_written(Path(f"{bucket}/file"))
    assert below(bucket) == {}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("s3://b/c", "s3://b/c"), ("memory://b", "memory://b"), ("C:/b", None), ("hf://a/b", None), ("a/b:c", None)],
)
def test_what_is_an_address(path: str, expected: str | None) -> None:
    assert remote.is_remote(Path(path)) == (expected is not None)
    assert remote.shown(Path(path)) == (expected or str(Path(path)))
