"""Bad input is answered with one line that names it, and exit code 2; nothing is written."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import TINY_TRAINING, Run, first, one_line, save_model

from diffae.cli import main
from sketchfaces import write_sketch_faces


def bomb() -> bytes:
    """A PNG header that promises 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


BAD_TRAINING = [
    (("nowhere",), "images nowhere: there is no such file or folder"),
    (("empty",), "images empty: no images found"),
    (("few",), "3 of 3 images can be used, at least 10 are needed"),
    (("{faces}", "--image-size", "36"), "image_size is 36: must be divisible by 8"),
    (("{faces}", "--channels", "5"), "has 3 channels, 5 are wanted"),
    (("{faces}", "--z-sem-channels", "8", "--no-encoder"), "z_sem_channels is 8: must be left out with --no-encoder"),
    (("{faces}", "--batch-size", "0"), "batch_size is 0: must be at least 1"),
    (("{faces}", "--batch-size", "30", "--accumulation", "4"), "batch_size is 30: must be divisible by"),
    (("{faces}", "--crop", "1,2,3"), "crop is '1,2,3': must be celeba or left,top,right,bottom, for instance 0,0,64,"),
    (("{faces}", "--crop", "0,0,0,0"), "crop is (0, 0, 0, 0): must satisfy 0 <= left < right"),
    (("{faces}", "--crop", "celeba"), "the crop (25, 57, 153, 185) must lie inside"),
    (("{faces}", "--background", "white"), "background is 'white': must be red,green,blue"),
]


@pytest.mark.parametrize(("words", "message"), BAD_TRAINING)
def test_bad_training_input(run: Run, faces: Path, words: tuple[str, ...], message: str) -> None:
    Path("empty").mkdir()
    write_sketch_faces("few", 3, 8)
    code, out, err = run("train", *(word.format(faces=faces) for word in words), "--out", "run")
    assert code == 2
    assert message in one_line(err)
    assert out == ""
    assert not Path("run").exists()


def test_a_run_that_exists_is_kept(run: Run, model: Path, faces: Path) -> None:
    shutil.copytree(model, "run")
    before = Path("run/config.json").read_bytes()
    code, _, err = run("train", faces, "--out", "run", *TINY_TRAINING)
    assert code == 2
    assert "run exists already: continue it with --resume, or replace it with --overwrite" in one_line(err)
    Path("papers").mkdir()
    Path("papers/thesis.txt").write_text("years of work")
    code, _, err = run("train", faces, "--out", "papers", "--overwrite", *TINY_TRAINING)
    assert code == 2
    assert "papers is not a run folder" in one_line(err)
    assert Path("run/config.json").read_bytes() == before
    assert Path("papers/thesis.txt").read_text() == "years of work"


def test_a_run_folder_that_cannot_be_made(run: Run, faces: Path) -> None:
    Path("file").write_text("")
    code, _, err = run("train", faces, "--out", "file/run", *TINY_TRAINING)
    assert code == 2
    assert "cannot write file/run: " in one_line(err)


def test_training_that_diverges_says_so(run: Run, faces: Path) -> None:
    code, _, err = run("train", faces, "--out", "run", *TINY_TRAINING, "--learning-rate", "1e38", "--images", "64")
    assert code == 2
    assert "training diverged" in one_line(err)


def test_a_full_disk(run: Run, model: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))
    code, _, err = run("train", faces, "--out", "run", "--cache", "packs")
    assert code == 2
    assert "free some space" in one_line(err)
    code, _, err = run("encode", model, faces, "--out", "codes.safetensors")
    assert code == 2
    assert "cannot write codes.safetensors" in one_line(err)
    assert not Path("run").exists()
    assert not Path("codes.safetensors").exists()


BAD_USE = [
    (("reconstruct", "{model}", "--out", "out"), "no images given"),
    (("reconstruct", "{model}", "{face}", "missing.png", "--out", "out"), "image missing.png: cannot be opened"),
    (("reconstruct", "{model}", "{face}", "cut.png", "--out", "out"), "image cut.png: is damaged or truncated"),
    (("reconstruct", "{model}", "bomb.png", "--out", "out"), "decompression bomb"),
    (("reconstruct", "{model}", "{face}", "--out", "out", "--steps", "0"), "steps is 0: must be at least 1"),
    (("reconstruct", "{model}", "{face}", "--out", "out", "--steps", "1001"), "steps is 1001: must be between 1 and"),
    (("reconstruct", "{model}", "{face}", "--out", "out", "--solver", "dpm++2m"), "solver is 'dpm++2m': has no"),
    (("reconstruct", "{model}", "{face}", "--out", "out", "--precision", "bfloat16"), "precision is 'bfloat16': too"),
    (
        ("reconstruct", "{model}", "{face}", "--out", "out", "--inversion", "bdia", "--steps", "1"),
        "steps is 1: BDIA",
    ),
    (("vary", "{model}", "{face}", "--out", "out.png", "--official", "--solver", "dpm++2m"), "--official sets its own"),
    (("reconstruct", "nowhere", "{face}", "--out", "out"), "nowhere is not a run folder"),
    (("reconstruct", "cut", "{face}", "--out", "out"), "model.safetensors is damaged"),
    (("reconstruct", "other", "{face}", "--out", "out"), "belongs to a model of another configuration"),
    (("info", "cut"), "model.safetensors is damaged"),
    (("encode", "{model}", "nowhere", "--out", "out.safetensors"), "images nowhere: there is no such file"),
    (("encode", "{model}", "bad", "--out", "out.safetensors"), "images bad: none can be used"),
    (("encode", "{model}", "{face}", "--out", "out.npz"), "the suffix must be one of .safetensors, .parquet"),
    (("decode", "{model}", "missing.safetensors", "--out", "out"), "missing.safetensors does not exist"),
    (("decode", "{model}", "{model}/model.safetensors", "--out", "out"), "holds no codes"),
    (("decode", "second", "codes.safetensors", "--out", "out"), "belongs to a model with fingerprint"),
    (("interpolate", "{model}", "{face}", "mine.png", "--out", "bad/../mine.png"), "is one of the files given"),
    (("vary", "{model}", "mine.png", "--out", "mine.png"), "cannot write mine.png: it is one of the files given"),
    (("denoise-path", "{model}", "mine.png", "--out", "./mine.png"), "is one of the files given"),
    (("reconstruct", "{model}", "reconstructions.png", "--out", "."), "is one of the files given"),
    (("encode", "cut", "bad", "--out", "cut/model.safetensors"), "is one of the files given"),
    (("interpolate", "{model}", "{face}", "{face}", "--out", "out.avi"), "the suffix must be one of"),
    (("interpolate", "{model}", "{face}", "{face}", "--out", "out.png", "--frames", "1"), "frames is 1: must be"),
    (("vary", "{model}", "{face}", "--out", "out.gif"), "the suffix must be one of"),
    (("vary", "{model}", "{face}", "--out", "out.png", "--count", "1"), "count is 1: must be at least 2"),
    (("reconstruct", "{model}", "{face}", "--steps", "3", "--out", "cut.png/out"), "cannot write cut.png/out"),
    (("decode", "{model}", "codes.safetensors", "--out", "cut.png"), "cannot write cut.png/"),
    (("vary", "{model}", "{face}", "--steps", "3", "--out", "cut.png/vary.png"), "cannot write cut.png/vary.png"),
    (("denoise-path", "{model}", "cut.png", "--out", "out.png"), "image cut.png: is damaged or truncated"),
]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, model: Path, faces: Path) -> Path:
    """A folder of things that went wrong."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "cut.png").write_bytes(first(faces, 1)[0].read_bytes()[:200])
    (folder / "bomb.png").write_bytes(bomb())
    for name in ("mine.png", "reconstructions.png"):
        shutil.copy(first(faces, 1)[0], folder / name)
    (folder / "bad").mkdir()
    (folder / "bad" / "a.png").write_bytes(b"not an image")
    shutil.copytree(model, folder / "cut")
    (folder / "cut" / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-100])
    save_model(folder / "other", z_sem_channels=7)
    shutil.copy(model / "config.json", folder / "other" / "config.json")
    save_model(folder / "second", model_channels=16)
    assert main(["encode", str(model), str(first(faces, 1)[0]), "--out", str(folder / "codes.safetensors")]) == 0
    return folder


@pytest.mark.parametrize(("words", "message"), BAD_USE)
def test_bad_input(
    run: Run, model: Path, faces: Path, damaged: Path, monkeypatch: Any, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(damaged)
    before = sorted(damaged.rglob("*"))
    code, out, err = run(*(word.format(model=model, face=first(faces, 1)[0]) for word in words))
    assert code == 2
    assert message in one_line(err)
    assert out == ""
    assert sorted(damaged.rglob("*")) == before  # nothing written
