"""Every command that uses a model does its job, the demo too."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import SIZE, Run, first, one_line, save_model
from PIL import Image

from diffae.cli import demo_page as demo
from diffae.cli.options import SamplingOptions
from diffae.config import Sampling
from diffae.data.images import load_image
from diffae.latent.codes import load_codes

# ---------------------------------------------------------------------- using a model


def test_reconstruct_writes_pictures_a_sheet_and_numbers(run: Run, model: Path, faces: Path) -> None:
    images = first(faces, 2)
    code, out, _ = run("reconstruct", model, *images, "--out", "out", "--steps", "5")
    assert code == 0
    pictures = [f"{image.stem}-reconstruction.png" for image in images]
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        ["results.csv", "reconstructions.png", *pictures]
    )
    rows = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [str(image) for image in images]
    for row in rows:
        assert float(row["mse"]) < 1e-5
        assert float(row["psnr"]) == pytest.approx(-10 * np.log10(float(row["mse"])), abs=1e-3)
        assert float(row["ssim"]) > 0.99
        assert float(row["semantic_ssim"]) < 0.9  # the tiny model has learnt nothing
        assert float(row["semantic_mse"]) > 1e-3
        assert int(row["calls"]) >= 5
    assert "mean" in out
    assert "SSIM from z_sem" in out
    with Image.open("out/reconstructions.png") as sheet:
        assert sheet.width > 4 * 128
    input_tile = np.asarray(load_image("out/" + pictures[0]))[8 : 8 + 128 : 8, 8 : 8 + 128 : 8]
    np.testing.assert_array_equal(input_tile, load_image(images[0]))


def test_residuals_above_the_tolerance_are_reported(run: Run, model: Path, faces: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(SamplingOptions, "sampling", lambda _: Sampling(steps=3, tolerance=1e-12, max_iterations=2))
    code, _, err = run("reconstruct", model, *first(faces, 2), "--out", "out")
    assert code == 0
    assert "inversion of 2 of 2 images stopped at a residual of up to" in err


@pytest.mark.parametrize("options", [("--inversion", "explicit"), ("--inversion", "bdia"), ("--official",)])
def test_encode_and_decode_return_to_the_image(run: Run, model: Path, faces: Path, options: tuple[str, ...]) -> None:
    words = ("--stochastic", "--steps", "7", *options)
    assert run("encode", model, faces, "--out", "codes.safetensors", *words)[0] == 0
    codes = load_codes("codes.safetensors")
    assert codes.sampling.steps == 7
    assert len(codes.names) == 24
    assert codes.x_T is not None
    assert codes.x_T.shape == (24, 3, SIZE, SIZE)
    assert (codes.x_below is not None) == ("bdia" in options)
    code, out, _ = run("decode", model, "codes.safetensors", "--out", "images")
    assert code == 0
    assert "24 images written to images" in out
    for path in first(faces, 3):
        error = load_image(f"images/{path.stem}-decoded.png").astype(int) - load_image(path)
        assert np.abs(error).mean() < 40  # of 255: explicit inversion of an untrained model in 7 steps


def test_codes_without_x_T_are_decoded_with_the_seed(run: Run, model: Path, faces: Path) -> None:
    image = first(faces, 1)[0]
    assert run("encode", model, image, "--out", "codes.safetensors")[0] == 0
    assert load_codes("codes.safetensors").x_T is None
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        code, text, _ = run("decode", model, "codes.safetensors", "--out", out, "--seed", seed)
        assert code == 0
        assert f"drawn with --seed {seed}" in text
    a, b, c = (load_image(f"{out}/{image.stem}-decoded.png") for out in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_originals_are_kept(run: Run, model: Path, faces: Path) -> None:
    shutil.copytree(faces, "photos")
    before = {path: path.read_bytes() for path in Path("photos").iterdir()}
    image = first(Path("photos"), 1)[0]
    shutil.copy(image, "photos/sheet.png")
    words = ("photos/sheet.png", image, "--out", "photos", "--steps", "3")
    assert run("reconstruct", model, *words)[0] == 0
    assert run("encode", model, image, "--out", "c.safetensors")[0] == 0
    for _ in range(2):
        assert run("decode", model, "c.safetensors", "--out", "photos")[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    assert Path("photos/sheet.png").read_bytes() == before[image]


@pytest.mark.parametrize(("channels", "suffix"), [(1, "png"), (3, "tif")])
def test_a_run_of_16_bit_images_decodes_to_16_bits(run: Run, tmp_path: Path, channels: int, suffix: str) -> None:
    model = save_model(tmp_path / "deep", image_channels=channels)
    config = json.loads(Path("deep/config.json").read_text())
    config["model"]["input"]["dtype"] = "uint16"
    Path("deep/config.json").write_text(json.dumps(config))
    pixels = np.random.default_rng(0).integers(0, 65536, (1, SIZE, SIZE, channels)).astype(np.uint16)
    np.save("scans.npy", pixels)
    words = ("--stochastic", "--steps", "3")
    assert run("encode", model, "scans.npy", "--out", "c.safetensors", *words)[0] == 0
    assert run("decode", model, "c.safetensors", "--out", "out")[0] == 0
    back = load_image(f"out/00000000-decoded.{suffix}", channels)
    assert back.dtype == np.uint16
    assert len(np.unique(back)) > 200
    assert np.abs(back.astype(float) - pixels[0]).mean() < 650


def test_encode_leaves_out_unreadable_images(run: Run, model: Path, faces: Path) -> None:
    Path("photos").mkdir()
    shutil.copy(first(faces, 1)[0], "photos/good.png")
    Path("photos/bad.png").write_bytes(b"not an image")
    code, _, err = run("encode", model, "photos", "--out", "codes.safetensors")
    assert code == 0
    assert "left out 1 image" in err
    assert load_codes("codes.safetensors").names == ["good.png"]


@pytest.mark.parametrize(("out", "frames"), [("morph.png", None), ("morph.gif", 6), ("morph.webp", 6)])
def test_interpolate(run: Run, model: Path, faces: Path, out: str, frames: int | None) -> None:
    words = ("--frames", "4", "--steps", "3", "--inversion", "explicit")
    code, _, err = run("interpolate", model, *first(faces, 2), "--out", out, *words)
    assert code == 0, err
    with Image.open(out) as image:
        assert getattr(image, "n_frames", 1) == (frames or 1)
        assert image.width >= (256 if frames else 4 * 128)


def test_vary_and_denoise_path(run: Run, model: Path, faces: Path) -> None:
    image = first(faces, 1)[0]
    assert run("vary", model, image, "--count", "3", "--steps", "3", "--out", "vary.png")[0] == 0
    with Image.open("vary.png") as sheet:
        assert sheet.width == 6 * (128 + 8) + 8  # input, 3 variations, mean, standard deviation
    assert run("denoise-path", model, image, "--steps", "12", "--out", "path.png")[0] == 0
    with Image.open("path.png") as sheet:
        assert sheet.width == 6 * (128 + 8) + 8  # 10 levels, the decoded image and the input, in 2 rows


def test_a_model_without_encoder(run: Run, faces: Path, tmp_path: Path) -> None:
    model, image = save_model(tmp_path / "unet", z_sem_channels=0), first(faces, 1)[0]
    assert run("reconstruct", model, image, "--out", "out", "--steps", "3")[0] == 0
    assert run("encode", model, image, "--out", "c.safetensors", "--stochastic", "--steps", "3")[0] == 0
    assert run("decode", model, "c.safetensors", "--out", "out")[0] == 0
    for words in (("encode", model, image, "--out", "d.safetensors"), ("vary", model, image, "--out", "v.png")):
        code, _, err = run(*words)
        assert code == 2
        assert "this model has no encoder" in one_line(err)


def test_a_model_of_many_channels_writes_tiff(run: Run, tmp_path: Path) -> None:
    model = save_model(tmp_path / "five", image_channels=5)
    np.save("stack.npy", np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE, 5), np.uint8))
    words = ("--stochastic", "--steps", "3")
    assert run("encode", model, "stack.npy", "--out", "c.safetensors", *words)[0] == 0
    code, _, err = run("decode", model, "c.safetensors", "--out", "out")
    assert code == 0, err
    assert load_image("out/00000000-decoded.tif", channels=5).shape == (SIZE, SIZE, 5)
    assert run("reconstruct", model, "out/00000000-decoded.tif", "--out", "again", "--steps", "3")[0] == 0


# ---------------------------------------------------------------------- the demo


def test_demo(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "shipped")
    monkeypatch.setattr("diffae.pretrained.pretrained_path", lambda: tmp_path / "shipped")
    for name, value in (("FACES", 4), ("SHOWN", 2), ("TRAIN_FACES", 12), ("TRAIN_STEPS", 2), ("BATCH", 4)):
        monkeypatch.setattr(demo, name, value)
    shutil.copytree(tmp_path / "shipped", f"demo/{demo.RUN}")  # of an earlier demo
    code, out, err = run("demo", "--out", "demo")
    assert code == 0, err
    assert "demo/report.html" in out
    text = Path("demo/report.html").read_text(encoding="utf-8")
    for heading in ("Encoding and decoding", "From one face to another", "Training from scratch", "Next steps"):
        assert heading in text


def test_demo_into_a_file(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.pretrained.pretrained_path", lambda: model)
    Path("demo").write_text("")
    code, _, err = run("demo", "--out", "demo")
    assert code == 2
    assert "cannot make the folder demo" in one_line(err)


def test_demo_without_its_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.pretrained.files", lambda _: tmp_path)
    code, _, err = run("demo", "--out", "demo")
    assert code == 2
    assert "has no model.safetensors" in one_line(err)
    assert not Path("demo").exists()
