"""Files with code for Python's pickle, made in many ways: the code is never run."""

from __future__ import annotations

import copyreg
import json
import marshal
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
import zarr

from diffae.compat.original.files import read_pickle
from diffae.data.images import ImageSpec
from diffae.data.sources import open_source
from diffae.errors import CheckpointError, DataError

EXTENSION = 200  # a code of copyreg's private range


class Touches:
    """Makes a file when it is made, filled or given a state, whichever argument is a path."""

    def __new__(cls, path: str = "") -> Touches:
        if path:
            Path(path).touch()
        return super().__new__(cls)

    def append(self, path: str) -> None:
        """What APPEND calls."""
        Path(path).touch()

    def __setitem__(self, key: str, path: str) -> None:
        Path(path).touch()

    __setstate__ = append


class Code:
    """Pickled, makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return (b"X" if isinstance(value, str) else b"B") + len(data).to_bytes(4, "little") + data


def named(name: str) -> bytes:
    module, _, rest = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + rest.encode() + b"\n"


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def _function(path: str) -> bytes:
    """A function made of its byte code, and called."""
    code = marshal.dumps(compile(f"open({path!r}, 'w').close()", "x", "exec"))
    made = called(named("types.FunctionType"), called(named("marshal.loads"), text(code)), b"}")
    return called(made)


MINE = f"{__name__}.Touches"
STREAMS: dict[str, Callable[[str], bytes]] = {
    "reduce": lambda path: called(named("os.mkdir"), text(path)),
    "stack global": lambda path: called(text("os") + text("mkdir") + b"\x93", text(path)),
    "inst": lambda path: b"(" + text(path) + b"ios\nmkdir\n",
    "obj": lambda path: b"(" + named("os.mkdir") + text(path) + b"o",
    "newobj": lambda path: named(MINE) + b"(" + text(path) + b"t\x81",
    "newobj with keywords": lambda path: named(MINE) + b")}" + text("path") + text(path) + b"s\x92",
    "state": lambda path: named(MINE) + b")\x81" + text(path) + b"b",
    "append": lambda path: named(MINE) + b")\x81" + text(path) + b"a",
    "set item": lambda path: named(MINE) + b")\x81" + text("x") + text(path) + b"s",
    "extension": lambda path: called(b"\x82" + bytes([EXTENSION]), text(path)),
    "exec": lambda path: called(named("builtins.exec"), text(f"open({path!r}, 'w').close()")),
    "eval": lambda path: called(named("builtins.eval"), text(f"open({path!r}, 'w').close()")),
    "getattr": lambda path: called(
        called(named("builtins.getattr"), called(named("builtins.__import__"), text("os")), text("mkdir")), text(path)
    ),
    "process": lambda path: called(named("os.system"), text(f"touch '{path}'")),
    "partial": lambda path: called(called(named("functools.partial"), named("os.mkdir"), text(path))),
    "pickle in a pickle": lambda path: called(named("pickle.loads"), text(pickle.dumps(Code(path)))),
    "byte code": _function,
    "timeit": lambda path: called(
        named("timeit.timeit"), text(f"open({path!r}, 'w').close()"), text("pass"), named("time.time"), b"K\x01"
    ),
}
"""Streams that make an object, and on the way a file (or folder) at a path."""


@pytest.fixture(autouse=True)
def extension() -> Iterator[None]:
    copyreg.add_extension("os", "mkdir", EXTENSION)
    yield
    copyreg.remove_extension("os", "mkdir", EXTENSION)


def _removed(trace: Path) -> None:
    trace.rmdir() if trace.is_dir() else trace.unlink()


@pytest.mark.parametrize("stream", STREAMS)
def test_a_checkpoint_with_code(tmp_path: Path, stream: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "last.ckpt"
    data = b"\x80\x02}" + text("state_dict") + STREAMS[stream](str(trace)) + b"s."
    pickle.loads(data)
    _removed(trace)  # plain pickle ran it
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        read_pickle(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in {"data.pkl": data, "version": b"3\n", "byteorder": b"little"}.items():
            archive.writestr(f"archive/{name}", part)
    with pytest.raises(CheckpointError):
        read_pickle(path)
    assert not trace.exists()


def _zarr(folder: Path, code: bytes) -> Path:
    """A store whose numbers are decoded by the codec "pickle" of numcodecs."""
    zarr.create_array(folder / "a.zarr", shape=(2, 8, 8), chunks=(2, 8, 8), dtype="uint8", zarr_format=2)
    header = folder / "a.zarr" / ".zarray"
    facts = {**json.loads(header.read_text()), "filters": [{"id": "pickle"}], "compressor": None}
    header.write_text(json.dumps(facts))
    (folder / "a.zarr" / "0.0.0").write_bytes(code)
    return folder / "a.zarr"


def _objects(name: str) -> Callable[[Path, bytes], Path]:
    def write(folder: Path, code: bytes) -> Path:
        objects = np.empty((2, 8, 8), object)
        objects[...] = pickle.loads(pickle.dumps(_Raw(code)))
        (np.save if name.endswith(".npy") else np.savez)(folder / name, objects)
        return folder / name

    return write


class _Raw:
    """An object whose pickle runs other pickled code."""

    def __init__(self, code: bytes) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return _loaded, (self.code,)


def _loaded(code: bytes) -> _Raw:
    pickle.loads(code)
    return _Raw(code)


def _tar(folder: Path, code: bytes) -> Path:
    return layouts.tar(folder / "a.tar", {"0.pickle": code, "0.pyd": code, "0.png": layouts.encoded(1)})


def _lmdb(folder: Path, code: bytes) -> Path:
    return layouts.write_lmdb(folder / "a", {"0": layouts.encoded(1), "__keys__": code, "__len__": code})


@pytest.mark.parametrize("write", [_objects("a.npy"), _objects("a.npz"), _zarr, _tar, _lmdb])
def test_images_with_code(tmp_path: Path, write: Callable[[Path, bytes], Path]) -> None:
    trace = tmp_path / "trace"
    path = write(tmp_path, pickle.dumps(Code(str(trace))))
    trace.unlink(missing_ok=True)
    try:
        for item in open_source(path, 1).items():
            item.read(ImageSpec(1))
    except DataError:
        pass
    assert not trace.exists()
