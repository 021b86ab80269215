"""Images that are not RGB photographs, end to end: two steps of training, encoded, decoded, edited and shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_helpers import TINY_TRAINING, Run, one_line
from PIL import Image
from volumes import FORMATS, planes

from diffae.data.formats.stacks import find_stack
from diffae.data.pack import Pack
from diffae.latent.codes import load_codes
from diffae.model import DiffusionAutoencoder

QUICK = ("--stochastic", "--steps", "2", "--inversion", "explicit")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_trained_on_and_returns_as_it_came(run: Run, name: str) -> None:
    write, where = FORMATS[name]
    values = write(Path())
    code, _, err = run("train", where, "--out", "run", "--channels", "1", "--window", "auto", *TINY_TRAINING)
    assert code == 0, err
    low, high = float(values.min()), float(values.max())
    assert f"values from black to white, of {values.dtype}: channel 1: {low:g} to {high:g}" in err
    assert "12 images of 8 x 8 x 1" in err
    model = DiffusionAutoencoder.from_pretrained("run", device="cpu")
    given = model.config.input
    assert (given.window, given.dtype) == (((low, high),), values.dtype.name)
    assert run("encode", "run", where, "--out", "codes.safetensors", *QUICK)[0] == 0
    code, _, err = run("decode", "run", "codes.safetensors", "--out", "out")
    assert code == 0, err
    decoded = sorted(path for path in Path("out").rglob("*") if path.is_file())
    assert len(decoded) == 12
    assert {"".join(path.suffixes) for path in decoded} == {".nii.gz" if name == "nifti" else ".tif"}
    found = find_stack(decoded[0], 1)
    assert found is not None
    back = found[0].picture(0).pixels
    assert (back.dtype, back.shape) == (values.dtype, (8, 8, 1))
    assert low <= back.min() <= back.max() <= high


def test_a_pack_keeps_the_depth_of_the_files(run: Run) -> None:
    values = FORMATS["tiffs"][0](Path())
    words = ("--channels", "1", "--crop", "0,0,8,8", *TINY_TRAINING)
    assert run("train", "in", "--out", "run", "--window", "0,8190", "--cache", "packs", *words)[0] == 0
    [folder] = Path("packs").glob("*.pack")
    pack = Pack.open(folder)
    assert (pack.dtype, pack.window, pack.samples) == (np.uint16, ((0.0, 8190.0),), "uint16")
    expected = np.rint(values[:, :, :8].astype(float) / 8190 * 65535)
    np.testing.assert_array_equal(pack.fetch(np.arange(12))[..., 0], expected)
    # a pack is itself a source of the files' values, for another window too, and needs none of its own stated again
    code, _, err = run("train", folder, "--out", "again", "--channels", "1", "--window", "percentile", *TINY_TRAINING)
    assert code == 0, err
    assert "channel 1: 0 to 8190" in err
    assert run("encode", "run", folder, "--out", "a.safetensors")[0] == 0
    assert run("encode", "run", "in", "--out", "b.safetensors")[0] == 0
    a, b = load_codes("a.safetensors").z_sem, load_codes("b.safetensors").z_sem
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("window", ["percentile", "-1,3"])
def test_a_pack_is_prepared_by_a_window(run: Run, window: str) -> None:
    values = FORMATS["pages"][0](Path())
    words = ("data", "prepare", "images", "in.tif", "--size", "8", "--channels", "1", "--out", "packs/a.pack")
    code, _, err = run(*words)
    assert code == 2
    assert "samples are float32, pixels must be uint8 or uint16 where no window of values is stated" in one_line(err)
    code, _, err = run(*words, f"--window={window}")
    assert code == 0, err
    assert sorted(path.name for path in Path("packs").iterdir()) == [".lock", "a.pack"]
    pack = Pack.open("packs/a.pack")
    low, high = np.percentile(values, (0.1, 99.9)) if window == "percentile" else (-1, 3)
    assert pack.window is not None
    np.testing.assert_allclose(pack.window, [(low, high)], rtol=1e-6)
    assert "values from black to white, of float32: channel 1: " in err
    expected = np.rint((values[:, :, 1:9].clip(low, high) - low) / (high - low) * 65535)
    assert np.abs(pack.fetch(np.arange(12))[..., 0] - expected).max() <= 1
    code, _, err = run("train", "packs/a.pack", "--out", "run", "--channels", "1", *TINY_TRAINING)
    assert code == 0, err
    given = DiffusionAutoencoder.from_pretrained("run", device="cpu").config.input
    assert (given.window, given.dtype) == (pack.window, "float32")


def test_a_window_is_found_once_and_kept_when_a_run_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMATS["tiffs"][0](Path())
    words = ("in", "--channels", "1", *TINY_TRAINING, "--cache", "packs")
    assert run("train", *words, "--out", "run", "--window", "percentile")[0] == 0
    monkeypatch.setattr("diffae.data.build.windows._measure", None)
    assert run("train", *words, "--out", "other", "--window", "percentile")[0] == 0
    code, _, err = run("train", "in", "--out", "run", "--resume", "--images", "12", "--cache", "packs")
    assert code == 0, err
    assert len(list(Path("packs").glob("*.pack"))) == 1
    config = json.loads(Path("run/config.json").read_text())
    [[low, high]] = config["model"]["input"]["window"]
    assert 100 < low < 110
    assert 3990 < high < 4000
    code, _, err = run("train", "in", "--out", "run", "--resume", "--window", "0,5", "--cache", "packs")
    assert code == 2
    assert "was trained with window = [[" in one_line(err)


def test_two_channels_in_false_colour_and_back_with_their_description(run: Run) -> None:
    Path("cells").mkdir()
    for number, pair in enumerate(planes(12, "uint16", 90, 1200, shape=(2, 8, 8))):
        about = {"axes": "CYX", "unit": "um", "Info": f"cell {number}"}
        tifffile.imwrite(f"cells/{number:02d}.tif", pair, imagej=True, resolution=(1.5, 1.5), metadata=about)
    Path("labels.csv").write_text("file,area\n" + "".join(f"{k:02d}.tif,{10 + k * k}\n" for k in range(12)))
    code, _, err = run("train", "cells", "--out", "run", "--channels", "2", "--window", "auto", *TINY_TRAINING)
    assert code == 0, err
    [sample, *_] = sorted(Path("run/samples").iterdir())
    with Image.open(sample) as picture:
        assert picture.mode == "RGB"
    assert run("encode", "run", "cells", "--out", "codes.safetensors", *QUICK)[0] == 0
    assert run("decode", "run", "codes.safetensors", "--out", "out")[0] == 0
    with tifffile.TiffFile("out/07-decoded.tif") as file:
        assert (file.asarray().dtype, file.series[0].axes, file.series[0].shape) == (np.uint16, "CYX", (2, 8, 8))
        assert (file.imagej_metadata or {})["unit"] == "um"
    quick = ("--steps", "2", "--inversion", "explicit")
    for words in (
        ("reconstruct", "run", "cells/00.tif", "--out", "sheets"),
        ("interpolate", "run", "cells/00.tif", "cells/01.tif", "--out", "morph.png"),
        ("vary", "run", "cells/00.tif", "--out", "vary.png"),
        ("denoise-path", "run", "cells/00.tif", "--out", "path.png"),
        ("interpolate", "run", "out/00-decoded.tif", "out/01-decoded.tif", "--out", "morph.gif"),
        ("attributes", "fit", "run", "--labels", "labels.csv"),
        ("edit", "run", "cells/03.tif", "--set", "area=40", "--out", "edited.png"),
    ):
        code, _, err = run(*words, *(quick if words[0] != "attributes" else ()))
        assert code == 0, err
    with Image.open("edited.png") as picture:
        assert picture.mode == "RGB"
    with tifffile.TiffFile("edited-image.tif") as file:
        assert (file.asarray().dtype, file.series[0].axes, file.series[0].shape) == (np.uint16, "CYX", (2, 8, 8))
        about = file.imagej_metadata or {}
        assert (about["unit"], about["Info"]) == ("um", "cell 3")
        assert 90 <= file.asarray().min() <= file.asarray().max() <= 1200


def test_a_picture_of_8_bits_returns_so_from_a_model_of_16(run: Run) -> None:
    Path("in").mkdir()
    for number, values in enumerate(planes(12, "uint16", 0, 65535, shape=(8, 8))):
        Image.fromarray(values).save(f"in/{number:02d}.png", dpi=(300, 300) if number else None)
    code, _, err = run("train", "in", "--out", "run", "--channels", "1", *TINY_TRAINING)
    assert code == 0, err
    Path("mixed").mkdir()
    for name in ("00.png", "01.png"):
        shutil.copy(f"in/{name}", f"mixed/{name}")
    Image.fromarray(planes(1, "uint8", 0, 255, shape=(8, 8))[0]).save("mixed/02.jpg")
    assert run("encode", "run", "mixed", "--out", "codes.safetensors", *QUICK)[0] == 0
    first, second, third = load_codes("codes.safetensors").origins
    assert first is None  # it is what the model makes anyway, and says no more
    assert second is not None
    assert third is not None
    assert run("decode", "run", "codes.safetensors", "--out", "out")[0] == 0
    for name, mode in (("00", "I;16"), ("01", "I;16"), ("02", "L")):
        with Image.open(f"out/{name}-decoded.png") as picture:
            assert picture.mode == mode
            assert ("dpi" in picture.info) == (name == "01")


def test_one_slice_of_a_volume(run: Run) -> None:
    values = FORMATS["nifti"][0](Path())
    window = ("--window=-1000,900", "--channels", "1")
    assert run("train", "in.nii.gz", "--out", "run", *window, *TINY_TRAINING)[0] == 0
    code, out, err = run("reconstruct", "run", "in.nii.gz/3", "--out", "out", "--steps", "2", "--inversion", "explicit")
    assert code == 0, err
    assert "in.nii.gz/3" in out
    code, out, _ = run("info", "run")
    assert f"{values.dtype}, -1000 to 900" in out


def test_the_model_alone_carries_its_type_and_window(run: Run) -> None:
    FORMATS["tiffs"][0](Path())
    assert run("train", "in", "--out", "run", "--channels", "1", "--window", "auto", *TINY_TRAINING)[0] == 0
    model = DiffusionAutoencoder.from_pretrained("run", device="cpu")
    model.save_pretrained("alone")
    again = DiffusionAutoencoder.from_pretrained("alone", device="cpu")
    assert again.config == model.config
    assert again.fingerprint() == model.fingerprint()


def test_images_hardly_brighter_than_black_are_reported(run: Run) -> None:
    brightest = FORMATS["tiffs"][0](Path())[:, :, 1:9].max()  # of the centred squares
    code, _, err = run("train", "in", "--out", "run", "--channels", "1", *TINY_TRAINING)
    assert code == 0
    assert f"warning: images reach {brightest} of 65535, so the model sees them nearly black: use --window auto" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--window", "full"),
            "window is 'full': must be auto, percentile, or low,high, once or for each of 1 channels",
        ),
        (("--window", "1,2,3"), "window is '1,2,3': must be auto"),
        (("--window", "5,5"), "window is ((5.0, 5.0),): must be pairs of a low and a higher number"),
        (("--window", "nan,5"), "must be pairs of a low and a higher number"),
        ((), "samples are float32, pixels must be uint8 or uint16 where no window of values is stated"),
        (("--window", "auto", "--channels", "2"), "has 1 channels, 2 are wanted; set channels to 1"),
    ],
)
def test_bad_windows(run: Run, words: tuple[str, ...], message: str) -> None:
    FORMATS["pages"][0](Path())
    channels = () if "--channels" in words else ("--channels", "1")
    code, out, err = run("train", "in.tif", "--out", "run", *channels, *words, *TINY_TRAINING)
    assert code == 2
    assert message in one_line(err)
    assert out == ""
    assert not Path("run").exists()


def test_values_that_allow_no_window(run: Run) -> None:
    np.save("flat.npy", np.full((12, 8, 8), 7, np.float32))
    code, _, err = run("train", "flat.npy", "--out", "run", "--channels", "1", "--window", "auto", *TINY_TRAINING)
    assert code == 2
    assert "images flat.npy: channel 1 has the value 7 only" in one_line(err)
    np.save("nan.npy", np.full((12, 8, 8), np.nan, np.float32))
    code, _, err = run("train", "nan.npy", "--out", "run", "--channels", "1", "--window", "percentile", *TINY_TRAINING)
    assert code == 2
    assert "images nan.npy: none has float32 values that are all finite" in one_line(err)
    values = planes(12, "float32", 0, 1)
    values[4, 2, 2] = np.inf
    np.save("some.npy", values)
    code, _, err = run("train", "some.npy", "--out", "run", "--channels", "1", "--window", "auto", *TINY_TRAINING)
    assert code == 0
    assert "left out 1 image that cannot be read" in err
    assert "image 00000004: has values that are not finite" in err
    shutil.rmtree("run")
