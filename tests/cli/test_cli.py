"""Every command does its job from the command line, and answers bad input with one line and exit code 2."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from diffae import checkpoint
from diffae.autoencoder import DiffusionAutoencoder
from diffae.cli import demo, main
from diffae.cli.common import SamplingOptions, image_spec, open_model, output_names, read_image
from diffae.cli.train import Preset
from diffae.codes import load_codes
from diffae.config import DiffusionConfig, ModelConfig, NetworkConfig, Sampling, presets
from diffae.data.sketch import write_sketch_faces
from diffae.errors import ConfigError
from diffae.images import load_image, to_tensor
from diffae.training.autoencoder import AutoencoderTask

SIZE = 16
Run = Callable[..., tuple[int, str, str]]


def network(**changes: Any) -> NetworkConfig:
    settings = {
        "image_size": SIZE, "model_channels": 8, "channel_mult": (1, 2), "res_blocks": 1,
        "attention_resolutions": (8,), "time_channels": 16, "dropout": 0.0, "z_sem_channels": 6,
        "encoder_channel_mult": (1, 2), "encoder_res_blocks": 1,
    }  # fmt: skip
    return NetworkConfig(**{**settings, **changes})


def save_model(folder: Path, **changes: Any) -> Path:
    """A tiny model whose output is not zero, as fresh weights' would be."""
    torch.manual_seed(0)
    model = DiffusionAutoencoder(ModelConfig(network(**changes), DiffusionConfig(prediction="v")))
    with torch.no_grad():
        for parameter in model.networks.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "faces"
    write_sketch_faces(folder, 24, SIZE, seed=3)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """main() in an empty folder; returns the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / "cache"))

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(str(stop.code))
        out, err = capfd.readouterr()
        return code, out, err

    return call


def first(faces: Path, count: int) -> list[Path]:
    return sorted(faces.glob("*.png"))[:count]


TINY_TRAINING = ("--image-size", "8", "--z-sem-channels", "4", "--images", "8", "--batch-size", "4")


# ---------------------------------------------------------------------- the command itself


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom diffae.cli import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'numpy', 'accelerate', 'matplotlib', 'PIL', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PHOTOS" in done.stdout


def test_python_m_diffae_is_the_command(run: Run) -> None:
    for module in ("diffae", "diffae.cli"):
        done = subprocess.run([sys.executable, "-m", module], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "train" in done.stderr


def test_every_preset_can_be_named() -> None:
    assert get_args(Preset) == tuple(presets())


@pytest.mark.parametrize("words", [["nonsense"], ["train"], ["train", "faces", "--out", "r", "--preset", "huge"]])
def test_wrong_usage_exits_with_2(run: Run, words: list[str]) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert "Traceback" not in err


def test_ctrl_c_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch, model: Path, faces: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DiffusionAutoencoder, "encode", interrupted)
    code, _, err = run("reconstruct", model, first(faces, 1)[0], "--out", "out")
    assert (code, err) == (130, "diffae: interrupted\n")


def test_sampling_options_mean_sampling() -> None:
    assert SamplingOptions().sampling() == Sampling()
    assert SamplingOptions(steps=7, official=True).sampling() == Sampling.official(7)
    with pytest.raises(ConfigError, match="--official sets its own"):
        SamplingOptions(official=True, inversion="explicit").sampling()


def test_output_names_stay_below_the_folder_and_differ() -> None:
    names = ["a.png", "b/a.jpg", "b/a.webp", "../../x.png", "/etc/y.png", "a.png"]
    expected = ["a.png.png", "b/a.jpg.png", "b/a.webp.png", "x.png", "etc/y.png", "a.png-2.png"]
    assert output_names(names) == [PurePosixPath(name) for name in expected]


# ---------------------------------------------------------------------- training


def test_train_then_reconstruct_as_it_proposes(run: Run, faces: Path) -> None:
    code, out, err = run("train", faces, "--out", "runs/a", *TINY_TRAINING)
    assert code == 0
    assert "24 images of 8 x 8 x 3 · preset small32 · z_sem of 4" in err
    assert "with the right z_sem" in out
    config = json.loads(Path("runs/a/config.json").read_text())
    assert config["model"]["network"]["z_sem_channels"] == 4
    assert config["training"]["images"] == 8
    proposed = shlex.split(out.splitlines()[-1])
    assert proposed[:2] == ["diffae", "reconstruct"]
    code, out, _ = run(*proposed[1:], "--steps", "3")
    assert code == 0
    assert "PSNR" in out
    code, out, _ = run("info", "runs/a")
    assert code == 0
    for fact in ("8 of 8 images seen", "8 x 8 pixels", "z_sem", "million", "loss", "model.safetensors"):
        assert fact in out


def test_ctrl_c_saves_and_the_command_it_prints_resumes(run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = AutoencoderTask.losses

    def pressed(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return losses(*args)

    words = ["train", faces, "--out", "a run", *TINY_TRAINING, "--no-encoder", "--cache", "packs"]
    words.remove("--z-sem-channels")
    words.remove("4")
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "losses", pressed)
        code, out, _ = run(*words)
    assert code == 130
    assert "Interrupted after 4 images; everything is saved in a run" in out
    resume = shlex.split(out.splitlines()[-1])
    assert resume == ["diffae", "train", str(faces), "--out", "a run", "--resume", "--cache", "packs"]
    code, out, err = run(*resume[1:])
    assert code == 0, err
    steps = [json.loads(line)["step"] for line in Path("a run/metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 2
    code, _, err = run(*resume[1:], "--images", "12", "--preset", "small32", "--no-encoder")
    assert code == 0, err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--batch-size", "2"), "was trained with batch_size = 4, not 2"),
        (("--preset", "small64"), "was trained with preset = small32, not small64"),
        (("--no-flip",), "was trained with flip = True, not False"),
        (("--crop", "0,0,8,8"), "was trained with crop = None, not (0, 0, 8, 8)"),
        (("--overwrite",), "resume and overwrite are both given"),
    ],
)
def test_resume_refuses_other_settings(run: Run, faces: Path, given: tuple[str, ...], message: str) -> None:
    model, _ = presets()["small32"]
    data = {"preset": "small32", "crop": None, "background": [255, 255, 255], "key": None}
    training_values = {"images": 8, "batch_size": 4}
    checkpoint.write_config(Path("run"), model, training=training_values, data=data)
    before = Path("run/config.json").read_bytes()
    code, _, err = run("train", faces, "--out", "run", "--resume", *given)
    assert code == 2
    assert message in one_line(err)
    assert Path("run/config.json").read_bytes() == before


def test_unreadable_images_are_listed_or_refused(run: Run, faces: Path) -> None:
    shutil.copytree(faces, "photos")
    Path("photos/broken.png").write_bytes(first(faces, 1)[0].read_bytes()[:60])
    code, _, err = run("train", "photos", "--out", "strict", *TINY_TRAINING, "--strict")
    assert code == 2
    assert "broken.png" in one_line(err)
    assert not Path("strict").exists()
    code, _, err = run("train", "photos", "--out", "run", *TINY_TRAINING)
    assert code == 0
    assert "left out 1 image that cannot be read" in err
    assert "image broken.png" in err


def test_crop_and_background_of_the_training_are_applied_to_images(run: Run, tmp_path: Path) -> None:
    save_model(tmp_path / "run")
    config = json.loads(Path("run/config.json").read_text())
    config["data"] = {"crop": [10, 0, 26, 16], "background": [0, 255, 0]}
    Path("run/config.json").write_text(json.dumps(config))
    wide = np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8)
    Image.fromarray(wide).save("wide.png")
    Image.fromarray(wide[:16, 10:26]).save("ready.png")
    spec = image_spec("run", open_model("run"))
    assert spec.background == (0, 255, 0)
    expected = to_tensor(wide[:16, 10:26])
    assert torch.equal(read_image(Path("wide.png"), spec), expected)
    assert torch.equal(read_image(Path("ready.png"), spec), expected)


# ---------------------------------------------------------------------- using a model


def test_reconstruct_writes_pictures_a_sheet_and_numbers(run: Run, model: Path, faces: Path) -> None:
    images = first(faces, 2)
    code, out, _ = run("reconstruct", model, *images, "--out", "out", "--steps", "5")
    assert code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        ["results.csv", "sheet.png", *(image.name for image in images)]
    )
    rows = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [str(image) for image in images]
    for row in rows:
        assert float(row["mse"]) < 1e-5
        assert float(row["psnr"]) == pytest.approx(-10 * np.log10(float(row["mse"])), abs=1e-3)
        assert float(row["ssim"]) > 0.99
        assert int(row["calls"]) >= 5
    assert "mean" in out
    with Image.open("out/sheet.png") as sheet:
        assert sheet.width > 3 * 128
    input_tile = np.asarray(load_image("out/" + images[0].name))[8 : 8 + 128 : 8, 8 : 8 + 128 : 8]
    np.testing.assert_array_equal(input_tile, load_image(images[0]))


def test_residuals_above_the_tolerance_are_told(run: Run, model: Path, faces: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(SamplingOptions, "sampling", lambda _: Sampling(steps=3, tolerance=1e-12, max_iterations=2))
    code, _, err = run("reconstruct", model, *first(faces, 2), "--out", "out")
    assert code == 0
    assert "inversion of 2 of 2 images stopped at a residual of up to" in err


@pytest.mark.parametrize("options", [("--inversion", "explicit"), ("--official",)])
def test_encode_and_decode_return_to_the_image(run: Run, model: Path, faces: Path, options: tuple[str, ...]) -> None:
    words = ("--stochastic", "--steps", "7", *options)
    assert run("encode", model, faces, "--out", "codes.safetensors", *words)[0] == 0
    codes = load_codes("codes.safetensors")
    assert codes.sampling.steps == 7
    assert len(codes.names) == 24
    assert codes.x_T is not None
    assert codes.x_T.shape == (24, 3, SIZE, SIZE)
    code, out, _ = run("decode", model, "codes.safetensors", "--out", "images")
    assert code == 0
    assert "24 images written to images" in out
    for path in first(faces, 3):
        error = load_image(Path("images") / path.name).astype(int) - load_image(path)
        assert np.abs(error).mean() < 40  # of 255: explicit inversion of an untrained model in 7 steps


def test_codes_without_x_T_are_decoded_with_the_seed(run: Run, model: Path, faces: Path) -> None:
    image = first(faces, 1)[0]
    assert run("encode", model, image, "--out", "codes.safetensors")[0] == 0
    assert load_codes("codes.safetensors").x_T is None
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        code, text, _ = run("decode", model, "codes.safetensors", "--out", out, "--seed", seed)
        assert code == 0
        assert f"drawn with --seed {seed}" in text
    a, b, c = (load_image(f"{out}/{image.name}") for out in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


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
    assert load_image("out/00000000.tif", channels=5).shape == (SIZE, SIZE, 5)
    assert run("reconstruct", model, "out/00000000.tif", "--out", "again", "--steps", "3")[0] == 0


# ---------------------------------------------------------------------- bad input


def one_line(err: str) -> str:
    """The last line of what was printed, which must be the error, without a traceback."""
    lines = err.strip().splitlines()
    assert lines[-1].startswith("diffae: error: "), err
    assert "Traceback" not in err
    assert sum(line.startswith("diffae: error") for line in lines) == 1
    return lines[-1]


def bomb() -> bytes:
    """A PNG header that promises 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


BAD_TRAINING = [
    (("nowhere",), "images nowhere: there is no such file or folder"),
    (("empty",), "images empty: no images found"),
    (("few",), "3 images are too few to train on"),
    (("{faces}", "--image-size", "36"), "image_size is 36: must be divisible by 8"),
    (("{faces}", "--channels", "5"), "has 3 channels, 5 are wanted"),
    (("{faces}", "--z-sem-channels", "8", "--no-encoder"), "z_sem_channels is 8: must be left out with --no-encoder"),
    (("{faces}", "--batch-size", "0"), "batch_size is 0: must be at least 1"),
    (("{faces}", "--batch-size", "30", "--accumulation", "4"), "batch_size is 30: must be divisible by"),
    (("{faces}", "--crop", "1,2,3"), "crop is '1,2,3': must be celeba or left,top,right,bottom"),
    (("{faces}", "--crop", "celeba"), "the crop (25, 57, 153, 185) must lie inside"),
    (("{faces}", "--background", "white"), "background is 'white': must be red,green,blue"),
    (("{faces}", "--resume"), "is not a run folder"),
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


def test_training_that_diverges_says_at_which_step(run: Run, faces: Path) -> None:
    code, _, err = run("train", faces, "--out", "run", *TINY_TRAINING, "--learning-rate", "1e38", "--images", "64")
    assert code == 2
    assert "the loss of step" in one_line(err)


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
    (("reconstruct", "nowhere", "{face}", "--out", "out"), "nowhere is not a run folder"),
    (("reconstruct", "cut", "{face}", "--out", "out"), "model.safetensors is damaged"),
    (("reconstruct", "other", "{face}", "--out", "out"), "belongs to a model of another configuration"),
    (("info", "cut"), "model.safetensors is damaged"),
    (("encode", "{model}", "nowhere", "--out", "out.safetensors"), "images nowhere: there is no such file"),
    (("encode", "{model}", "bad", "--out", "out.safetensors"), "images bad: none can be used"),
    (("encode", "{model}", "{face}", "--out", "out.npz"), "the suffix must be .safetensors"),
    (("decode", "{model}", "missing.safetensors", "--out", "out"), "missing.safetensors does not exist"),
    (("decode", "{model}", "{model}/model.safetensors", "--out", "out"), "holds no codes"),
    (("decode", "second", "codes.safetensors", "--out", "out"), "belongs to a model with fingerprint"),
    (("interpolate", "{model}", "{face}", "{face}", "--out", "out.mp4"), "the suffix must be one of"),
    (("interpolate", "{model}", "{face}", "{face}", "--out", "out.png", "--frames", "1"), "frames is 1: must be"),
    (("vary", "{model}", "{face}", "--out", "out.gif"), "the suffix must be one of"),
    (("vary", "{model}", "{face}", "--out", "out.png", "--count", "1"), "count is 1: must be at least 2"),
    (("denoise-path", "{model}", "cut.png", "--out", "out.png"), "image cut.png: is damaged or truncated"),
]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, model: Path, faces: Path) -> Path:
    """A folder of things that went wrong."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "cut.png").write_bytes(first(faces, 1)[0].read_bytes()[:200])
    (folder / "bomb.png").write_bytes(bomb())
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


# ---------------------------------------------------------------------- the demo


def test_demo(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "shipped")
    monkeypatch.setattr("diffae.pretrained.pretrained_path", lambda: tmp_path / "shipped")
    for name, value in (("FACES", 4), ("SHOWN", 2), ("TRAIN_FACES", 12), ("TRAIN_STEPS", 2), ("BATCH", 4)):
        monkeypatch.setattr(demo, name, value)
    shutil.copytree(tmp_path / "shipped", "demo/run")  # of an earlier demo
    code, out, err = run("demo", "--out", "demo")
    assert code == 0, err
    assert "demo/report.html" in out
    text = Path("demo/report.html").read_text(encoding="utf-8")
    for heading in ("Apart, and back together", "From one face to another", "Training, from nothing", "Now you"):
        assert heading in text


def test_demo_without_its_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.pretrained.files", lambda _: tmp_path)
    code, _, err = run("demo", "--out", "demo")
    assert code == 2
    assert "has no model.safetensors" in one_line(err)
    assert not Path("demo").exists()
