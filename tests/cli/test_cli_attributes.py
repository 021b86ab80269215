"""The commands for attributes: they do their job, and bad input gets one line."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import SIZE, Run, first, one_line, save_model
from PIL import Image

from diffae import checkpoint
from diffae.data.images import load_image
from diffae.latent.attributes import ATTRIBUTES, AttributeDirections
from diffae.model import DiffusionAutoencoder
from sketchfaces import write_sketch_faces

KNOWN = ("smiling", "long_hair", "age")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 faces with a labels.csv of three columns, and more images than labels."""
    folder = tmp_path_factory.mktemp("data") / "many"
    table = write_sketch_faces(folder, 80, SIZE, seed=4)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    write(table, [[row["file"], *(row[name] for name in KNOWN)] for row in rows[:70]], KNOWN)
    return folder


@pytest.fixture(scope="module")
def trained(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with attributes, fitted from Python."""
    from diffae.data.labels import LabelTable

    folder = save_model(tmp_path_factory.mktemp("model") / "trained")
    model = DiffusionAutoencoder.from_pretrained(folder)
    paths = first(many, 80)
    table = LabelTable.read(many / "labels.csv").for_images([path.name for path in paths])
    AttributeDirections().fit(model.encode_semantic(paths), table).save(folder, model.fingerprint())
    return folder


def write(path: Path, rows: Sequence[Sequence[object]], columns: Sequence[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file", *columns], *rows])
    return path


def tile(path: Path | str, column: int) -> np.ndarray:
    """A picture of a sheet's first row, at its own size."""
    left = 8 + column * (128 + 8)
    return np.asarray(load_image(path))[8:136, left : left + 128][:: 128 // SIZE, :: 128 // SIZE]


# ---------------------------------------------------------------------- use


def test_folders_are_labels_where_there_are_no_others(run: Run, many: Path) -> None:
    save_model(Path("model"))
    for place, path in enumerate(first(many, 60)):
        folder = Path("photos") / ("cats" if place % 3 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    code, out, err = run("attributes", "fit", "model", "--images", "photos")
    assert code == 0, err
    assert "2 attributes, from 60 images" in out
    assert set(AttributeDirections.load("model").attributes_) == {"folder:cats", "folder:dogs"}
    shutil.rmtree("photos/dogs")
    code, _, err = run("attributes", "fit", "model", "--images", "photos")
    assert (code, "labels are missing: name a table by --labels" in one_line(err)) == (2, True)


def test_attributes_are_fitted_and_shown(run: Run, model: Path, trained: Path, many: Path) -> None:
    shutil.copytree(model, "run")
    code, out, err = run("attributes", "fit", "run", "--labels", many / "labels.csv", "--images", many)
    assert code == 0
    assert "warning" not in err
    assert "3 attributes, from 70 images, written to run/attributes.safetensors." in out
    shown = run("attributes", "show", "run")
    assert shown[0] == 0
    assert out.startswith(shown[1])
    about = AttributeDirections.load("run").attributes_["age"]
    [line] = [line for line in shown[1].splitlines() if line.startswith("age")]
    assert line.split()[:6] == ["age", "number", "70", "–", "14", "R²"]
    assert line.split()[6] == f"{about.score.value:.3f}"
    [cached] = Path("run/cache").glob("*.npy")
    before = cached.stat().st_mtime_ns
    again = run("attributes", "fit", "run", "--labels", many / "labels.csv", "--images", many)
    assert again[1] == out
    assert cached.stat().st_mtime_ns == before


def test_the_training_images_are_found_by_config_json(run: Run, model: Path, many: Path) -> None:
    from diffae.data.build import build_pack
    from diffae.data.cache import cache_folder

    shutil.copytree(model, "run")
    settings = checkpoint.read_model_config(model)
    noted = {"source": str(many), "key": build_pack(many, cache_folder(), size=SIZE).index["key"]}
    checkpoint.write_config(Path("run"), settings, data=noted)
    code, _, err = run("attributes", "fit", "run", "--labels", many / "labels.csv")
    assert code == 0
    assert "warning" not in err
    checkpoint.write_config(Path("run"), settings, data=noted | {"key": "of others"})
    code, _, err = run("attributes", "fit", "run", "--labels", many / "labels.csv")
    assert code == 0
    assert "has changed since the run was trained" in err


def test_what_cannot_be_used_is_reported_and_left_out(run: Run, model: Path, many: Path) -> None:
    shutil.copytree(model, "run")
    rows = [[path.name, row % 2, 1, 7, "red" if row < 30 else "blue"] for row, path in enumerate(first(many, 60))]
    labels = write(Path("labels.csv"), [*rows, ["stranger.png", 1, 1, 7, "red"]], ("odd", "same", "lucky", "hair"))
    code, out, err = run("attributes", "fit", "run", "--labels", labels, "--images", many)
    assert code == 0
    said = " ".join(err.split())
    assert "left out: 1 of 61 labels name files that are not among the 80 images, such as stranger.png" in said
    assert "left out: attribute 'same' has one class: 60 of 60 images have it" in said
    assert "left out: attribute 'lucky': all 60 values are 7" in said
    assert AttributeDirections.load("run").names_ == ("odd", "hair:blue", "hair:red")
    assert "3 attributes, from 60 images" in out


def test_edit_writes_before_after_and_difference(run: Run, trained: Path, many: Path) -> None:
    [image] = first(many, 1)
    words = ("--set", "long_hair=+0.5", "--set", "age=60", "--out", "edited.png", "--steps", "5")
    code, out, _ = run("edit", trained, image, *words)
    assert code == 0
    assert "edited, written to edited.png" in out
    [age] = [line.split() for line in out.splitlines() if line.startswith("age")]
    assert float(age[2]) == 60
    np.testing.assert_array_equal(tile("edited.png", 0), load_image(image))
    after, difference = tile("edited.png", 1), tile("edited.png", 2)
    change = np.abs(after.astype(int) - load_image(image)).mean(axis=2)
    assert change.max() > 3
    assert difference[np.unravel_index(change.argmax(), change.shape)].sum() > difference.sum(axis=2).mean()


def test_a_reading_beyond_all_bounds_is_shown(run: Run, trained: Path, many: Path) -> None:
    """Its probability is 0, and not an overflow."""
    code, out, _ = run("edit", trained, *first(many, 1), "--set", "smiling=-5000", "--out", "a.png", "--steps", "2")
    assert code == 0
    [smiling] = [line.split() for line in out.splitlines() if line.startswith("smiling")]
    assert smiling[2] == "0.0%"


def test_a_sweep_is_a_strip(run: Run, trained: Path, many: Path) -> None:
    [image] = first(many, 1)
    words = ("--sweep", "long_hair", "-50", "50", "3", "--out", "strip.png", "--steps", "5")
    code, out, _ = run("edit", trained, image, *words)
    assert code == 0
    with Image.open("strip.png") as strip:
        assert strip.width == 8 + 4 * (128 + 8)
    middle = tile("strip.png", 2).astype(int) - load_image(image)
    assert np.abs(middle).max() <= 1  # a step of 0, and exact inversion
    values = [float(word.rstrip("%")) for word in out.splitlines()[1].split()[1:]]
    before, first_asked, _, last_asked, _ = values
    assert first_asked < before < last_asked


@pytest.mark.parametrize(("only", "held"), [((), {"smiling", "age"}), (("age",), {"age"})])
def test_only_keeps_the_readings_of_others(
    run: Run, trained: Path, many: Path, only: tuple[str, ...], held: set[str]
) -> None:
    words = ("--set", "long_hair=p=0.9", "--out", "a.png", "--steps", "3", "--inversion", "explicit")
    code, out, _ = run("edit", trained, first(many, 1)[0], *words, "--only", *only)
    assert code == 0
    rows = {words[0]: words[1:] for line in out.splitlines()[1:-1] if (words := line.split())}
    assert set(rows) == {"long_hair"} | held
    assert rows["long_hair"][1] == "90.0%"
    for name in held:
        before, after = (float(word.rstrip("%")) for word in rows[name][:2])
        assert after == pytest.approx(before, abs=0.11)  # to the digit shown, which rounding may tip


def test_the_published_direction_is_another(run: Run, trained: Path, many: Path) -> None:
    words = ("--set", "age=50", "--steps", "3", "--inversion", "explicit")
    for name, more in (("a.png", ()), ("b.png", ("--published",))):
        assert run("edit", trained, first(many, 1)[0], *words, "--out", name, *more)[0] == 0
    assert not np.array_equal(tile("a.png", 1), tile("b.png", 1))


def test_directions_are_shown_as_strips(run: Run, model: Path, many: Path) -> None:
    shutil.copytree(model, "run")
    code, out, _ = run("directions", "run", "--pca", 2, "--images", many, "--steps", 3, "--inversion", "explicit")
    assert code == 0
    assert "2 principal and 2 most visible directions of z_sem, each a strip, written to run/directions.png" in out
    with Image.open("run/directions.png") as sheet:
        assert sheet.width == 8 + 7 * (128 + 8)
        assert sheet.height > 4 * 128


def test_the_demo_edits_where_attributes_are(trained: Path, model: Path, tmp_path: Path) -> None:
    from diffae.cli.demo_page import _editing
    from diffae.data.images import to_tensor
    from diffae.page import Page
    from sketchfaces import sketch_faces

    face = to_tensor(sketch_faces(1, SIZE).images)
    for folder, shown in ((trained, True), (model, False)):
        page = Page("demo")
        _editing(page, DiffusionAutoencoder.from_pretrained(folder, "cpu"), face)
        page.write(tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text()
        assert ("Editing" in text) == shown
        assert text.count("<img") == (6 if shown else 0)  # the strip of "age"; this model has no glasses and no hat


# ---------------------------------------------------------------------- bad input

BAD_LABELS = [
    ([["nobody.png", 1], ["noone.png", 0]], ("x",), "2 labels, the first for 'nobody.png': none names one of the 80"),
    ([["sketch_{:06d}.png", 1]] * 80, ("x",), "attribute 'x' has one class: 80 of 80 images have it"),
    ([["sketch_{:06d}.png", "NaN"]] * 80, ("x",), "attribute 'x': no value is known"),
    ([["sketch_{:06d}.png", 3.5]] * 80, ("x",), "attribute 'x': all 80 values are 3.5"),
    ([["sketch_{:06d}.png", 1]] * 4 + [["sketch_{:06d}.png", 0]] * 70, ("x",), "4 of 74 images have it, at least 5"),
    ([["sketch_{:06d}.png"]] * 80, (), "have no column; add one"),
]


@pytest.mark.parametrize(("rows", "columns", "message"), BAD_LABELS)
def test_bad_labels(
    run: Run, model: Path, many: Path, rows: list[list[object]], columns: tuple[str, ...], message: str
) -> None:
    shutil.copytree(model, "run")
    numbered = [[str(row[0]).format(index), *row[1:]] for index, row in enumerate(rows)]
    code, out, err = run(
        "attributes", "fit", "run", "--labels", write(Path("l.csv"), numbered, columns), "--images", many
    )
    assert code == 2
    assert message in one_line(err)
    assert out == ""
    assert not Path("run", ATTRIBUTES).exists()


def test_bad_runs(run: Run, model: Path, many: Path) -> None:
    labels = ("--labels", many / "labels.csv")
    code, _, err = run("attributes", "fit", model, *labels)
    assert code == 2
    assert "are not named in config.json; name some by --images" in one_line(err)
    code, _, err = run("attributes", "fit", "somebody/faces", *labels)
    assert code == 2
    assert "somebody/faces is not a folder: attributes are stored in a run folder" in one_line(err)
    plain = save_model(Path("plain"), z_sem_channels=0)
    for words in (("attributes", "fit", plain, *labels, "--images", many), ("directions", plain, "--images", many)):
        code, _, err = run(*words)
        assert code == 2
        assert "z_sem_channels is 0: this model has no z_sem" in one_line(err)
    for words in (("attributes", "show", model), ("edit", model, first(many, 1)[0], "--set", "a=1", "--out", "a.png")):
        code, _, err = run(*words)
        assert code == 2
        assert "has no attributes yet: fit some with `diffae" in one_line(err)


def test_attributes_of_another_model(run: Run, trained: Path, many: Path) -> None:
    other = save_model(Path("other"), model_channels=16)
    shutil.copy(trained / ATTRIBUTES, other)
    code, _, err = run("edit", other, first(many, 1)[0], "--set", "age=60", "--out", "a.png")
    assert code == 2
    assert "belongs to a model with fingerprint" in one_line(err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "set is empty: say what to change, for instance --set Smiling=+0.3"),
        (("--set", "smiling"), "set is 'smiling': must be NAME=STRENGTH"),
        (("--set", "smilling=1"), "attribute 'smilling' is not among the fitted ones; did you mean 'smiling'?"),
        (("--set", "smilling=1", "--only"), "did you mean 'smiling'?"),
        (
            ("--set", "smiling=1", "--only", "agge"),
            "attribute 'agge' is not among the fitted ones; did you mean 'age'?",
        ),
        (("--set", "smiling=1", "--only", "smiling"), "attribute 'smiling' is both changed and held"),
        (("--set", "smiling=nan"), "strength of smiling is 'nan': must be finite"),
        (("--set", "smiling=p=2"), "strength of smiling is 'p=2': a probability must lie between 0 and 1"),
        (("--set", "age=median"), "strength of age is 'median': must be a number"),
        (("--sweep", "smiling", "nan", "1", "3"), "sweep is from nan to 1.0: must be finite"),
        (("--sweep", "smiling", "0", "1", "1"), "sweep has 1 image: must be at least 2"),
        (("--sweep", "age", "0", "1", "3", "--set", "age=2"), "attribute 'age' is in both --set and --sweep"),
    ],
)
def test_bad_edits(run: Run, trained: Path, many: Path, words: tuple[str, ...], message: str) -> None:
    code, out, err = run("edit", trained, first(many, 1)[0], *words, "--out", "a.png")
    assert code == 2
    assert message in one_line(err)
    assert out == ""
    assert not Path("a.png").exists()


def test_bad_numbers_of_directions(run: Run, model: Path, many: Path) -> None:
    shutil.copytree(model, "run")
    for pca in (0, 7):
        code, _, err = run("directions", "run", "--pca", pca, "--images", many)
        assert code == 2
        assert f"pca is {pca}: must lie in 1..6" in one_line(err)
    assert not Path("run/directions.png").exists()


def test_a_number_with_a_sign_is_a_change(run: Run, trained: Path, many: Path) -> None:
    words = ("edit", trained, first(many, 1)[0], "--out", "a.png", "--steps", "2", "--inversion", "explicit")

    def age(*change: str) -> list[float]:
        code, out, _ = run(*words, "--rounds", "0", *change)
        assert code == 0
        [line] = [line.split() for line in out.splitlines() if line.startswith("age")]
        return [float(word) for word in line[1:3]]

    before, asked = age("--set", "age=+10")
    assert asked == pytest.approx(before + 10, abs=0.02)
    before, asked = age("--set", "age=-10")
    assert asked == pytest.approx(before - 10, abs=0.02)
    assert age("--set", "age==-10")[1] == pytest.approx(-10, abs=0.02)
    code, _, error = run(*words, "--set", "age==old")
    assert code == 2
    assert "must be NAME==NUMBER" in one_line(error)


def test_edits_that_the_image_does_not_follow_are_reported(run: Run, trained: Path, many: Path) -> None:
    words = ("--set", "age=60", "--out", "a.png", "--steps", "2", "--inversion", "explicit", "--rounds", "0")
    code, out, error = run("edit", trained, first(many, 1)[0], *words)
    assert code == 0
    [age] = [line.split() for line in out.splitlines() if line.startswith("age")]
    before, asked, read = map(float, age[1:])
    missed = abs(read - asked) > 0.05 * abs(asked - before)
    assert ("did not reach its target" in error or "wrong way" in error) == missed
