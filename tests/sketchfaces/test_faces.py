"""The sketch faces: determinism, what each label changes and where, frequencies, files."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sketchfaces import (
    BINARY,
    CONTINUOUS,
    LABELS,
    Face,
    draw_chunks,
    draw_face,
    random_face,
    sketch_faces,
    write_sketch_faces,
)

SIZE = 48
PLAIN = Face(look=11, detail=5)


def changed(a: Face, b: Face, size: int = SIZE) -> np.ndarray:
    """Where two drawings differ: bool (size, size)."""
    difference = draw_face(a, size).astype(int) - draw_face(b, size).astype(int)
    return np.abs(difference).max(axis=2) > 8


def rows_and_columns(mask: np.ndarray) -> tuple[float, float, float, float]:
    """First row, last row, first column, last column of a mask, as fractions of the picture."""
    rows, columns = np.nonzero(mask)
    n = mask.shape[0]
    return rows.min() / n, (rows.max() + 1) / n, columns.min() / n, (columns.max() + 1) / n


def halved(image: np.ndarray) -> np.ndarray:
    n = image.shape[0] // 2
    return image.reshape(n, 2, n, 2, 3).mean(axis=(1, 3))


def test_a_face_does_not_depend_on_count_start_or_chunk() -> None:
    whole = sketch_faces(7, 16, seed=3)
    later = sketch_faces(2, 16, seed=3, start=5)
    parts = list(draw_chunks(7, 16, seed=3, chunk=3))
    assert [len(part.names) for part in parts] == [3, 3, 1]
    np.testing.assert_array_equal(later.images, whole.images[5:])
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), whole.images)
    assert later.names == whole.names[5:] == ["sketch_000005.png", "sketch_000006.png"]
    for name in LABELS:
        np.testing.assert_array_equal(later.labels[name], whole.labels[name][5:])
        np.testing.assert_array_equal(np.concatenate([part.labels[name] for part in parts]), whole.labels[name])


def test_shapes_types_and_an_empty_set() -> None:
    faces = sketch_faces(3, 24)
    assert faces.images.shape == (3, 24, 24, 3)
    assert faces.images.dtype == np.uint8
    assert tuple(faces.labels) == LABELS
    assert all(column.dtype == np.float64 and column.shape == (3,) for column in faces.labels.values())
    assert sketch_faces(0, 24).images.shape == (0, 24, 24, 3)
    assert list(draw_chunks(0, 24)) == []


def test_seeds_differ() -> None:
    a, b = sketch_faces(4, 16, seed=0), sketch_faces(4, 16, seed=1)
    assert (np.abs(a.images.astype(int) - b.images).mean(axis=(1, 2, 3)) > 10).all()
    assert all((a.labels[name] != b.labels[name]).all() for name in ("age", "head_turn", "background_hue"))


@pytest.mark.parametrize(("large", "bound"), [(64, 3.0), (128, 2.0), (256, 2.0)])
def test_it_is_the_same_face_at_every_size(large: int, bound: float) -> None:
    for index in range(4):
        face = random_face(0, index)
        difference = halved(draw_face(face, large)) - draw_face(face, large // 2)
        assert np.abs(difference).mean() < bound
        other = halved(draw_face(random_face(0, index + 1), large)) - draw_face(face, large // 2)
        assert np.abs(other).mean() > 8 * np.abs(difference).mean()


@pytest.mark.parametrize("size", [8, 9, 33, 200])
def test_any_size(size: int) -> None:
    assert draw_face(PLAIN, size).shape == (size, size, 3)


@pytest.mark.parametrize(
    ("label", "top", "bottom", "left", "right"),
    [
        ("smiling", 0.45, 0.80, 0.15, 0.85),  # mouth and cheeks
        ("open_mouth", 0.30, 0.80, 0.20, 0.80),  # mouth, and brows raised
        ("glasses", 0.35, 0.70, 0.10, 0.90),
        ("hat", 0.00, 0.60, 0.00, 1.00),  # and the hair that it flattens
        ("beard", 0.45, 0.95, 0.15, 0.85),
        ("long_hair", 0.00, 1.00, 0.05, 0.95),
        ("earrings", 0.50, 0.80, 0.10, 0.90),
    ],
)
@pytest.mark.parametrize("look", [2, 7, 11])
def test_a_binary_label_changes_its_place_and_nothing_else(
    label: str, top: float, bottom: float, left: float, right: float, look: int
) -> None:
    face = replace(PLAIN, look=look)
    mask = changed(face, replace(face, **{label: True}))
    first_row, last_row, first_column, last_column = rows_and_columns(mask)
    assert mask.mean() > 0.002
    assert first_row >= top
    assert last_row <= bottom
    assert first_column >= left
    assert last_column <= right


@pytest.mark.parametrize("tone", [0.0, 0.5, 1.0])
def test_labels_can_be_seen_at_32_pixels(tone: float) -> None:
    face = replace(PLAIN, skin_tone=tone, hair_tone=0.9 - 0.9 * tone)
    for label, pixels in (("smiling", 8), ("open_mouth", 4), ("glasses", 30), ("hat", 60), ("beard", 15)):
        assert changed(face, replace(face, **{label: True}), 32).sum() >= pixels, label


def test_the_mouth_follows_the_turning_head() -> None:
    def mouth(turn: float) -> float:
        face = replace(PLAIN, head_turn=turn)
        return float(np.nonzero(changed(face, replace(face, open_mouth=True))[SIZE // 2 :])[1].mean() / SIZE)

    places = [mouth(turn) for turn in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    assert np.all(np.diff(places) > 0.02)
    assert places[2] == pytest.approx(0.5, abs=0.03)
    assert places[0] + places[4] == pytest.approx(1.0, abs=0.04)


def test_the_lit_side_of_the_face_is_brighter() -> None:
    def tilt(light: float) -> float:
        face = draw_face(replace(PLAIN, light_direction=light), SIZE).mean(axis=2)[20:36, 12:36]
        return float(face[:, 12:].mean() - face[:, :12].mean())

    tilts = [tilt(light) for light in (-1.0, -0.4, 0.4, 1.0)]
    assert np.all(np.diff(tilts) > 3)
    assert tilts[0] < 0 < tilts[-1]


def test_age_greys_the_hair_and_a_childs_eyes_are_large_and_low() -> None:
    face = replace(PLAIN, look=4, long_hair=True, hair_tone=0.6)

    def colourfulness(age: float) -> float:
        hair = draw_face(replace(face, age=age), SIZE)[8:12, 18:30].astype(float)
        return float((hair.max(axis=2) - hair.min(axis=2)).mean())

    def pupils(age: float) -> tuple[float, int]:
        rows = np.nonzero(draw_face(replace(PLAIN, age=age), 96).max(axis=2) < 48)[0]
        return float(rows.mean()), len(rows)

    assert colourfulness(80) < 0.4 * colourfulness(30)
    (child_row, child_size), (row, size) = pupils(5), pupils(30)
    assert child_row > row + 3
    assert child_size > 1.2 * size


def test_skin_hair_and_background_labels_change_their_colours() -> None:
    def patch(face: Face, rows: slice, columns: slice) -> np.ndarray:
        return draw_face(face, SIZE)[rows, columns].astype(float).mean(axis=(0, 1))

    cheek, crown, corner = (slice(29, 33), slice(16, 32)), (slice(6, 10), slice(20, 28)), (slice(0, 4), slice(0, 6))
    skins = [patch(replace(PLAIN, skin_tone=t), *cheek).mean() for t in (0.0, 0.35, 0.7, 1.0)]
    hairs = [patch(replace(PLAIN, hair_tone=t), *crown).mean() for t in (0.0, 0.35, 0.7, 1.0)]
    red, blue = (patch(replace(PLAIN, background_hue=h), *corner) for h in (30.0, 250.0))
    assert np.all(np.diff(skins) < -10)
    assert np.all(np.diff(hairs) > 10)
    assert red[0] > red[2] + 20
    assert blue[2] > blue[0] + 20


def test_detail_and_look_change_what_no_label_names() -> None:
    labels = [getattr(PLAIN, name) for name in LABELS]
    for other in (replace(PLAIN, detail=6), replace(PLAIN, look=12)):
        assert [getattr(other, name) for name in LABELS] == labels
        assert changed(PLAIN, other).mean() > 0.05
    eyes = (slice(22, 27), slice(15, 33))  # detail leaves the face's shape alone
    difference = draw_face(PLAIN, SIZE)[eyes].astype(int) - draw_face(replace(PLAIN, detail=6), SIZE)[eyes]
    assert np.abs(difference).mean() < 6


def test_label_frequencies() -> None:
    faces = [random_face(0, i) for i in range(3000)]
    column = {name: np.array([float(getattr(face, name)) for face in faces]) for name in LABELS}
    stated = {"smiling": 0.50, "open_mouth": 0.36, "glasses": 0.25, "hat": 0.22, "beard": 0.20, "long_hair": 0.42}
    for name, frequency in {**stated, "earrings": 0.28}.items():
        assert column[name].mean() == pytest.approx(frequency, abs=0.035), name
    for name in ("head_turn", "light_direction"):
        assert abs(column[name].mean()) < 0.05
        assert column[name].std() == pytest.approx(1 / np.sqrt(3), abs=0.03)
    assert column["age"].mean() == pytest.approx(38.5, abs=1.5)
    assert not column["beard"][column["age"] < 18].any()
    assert np.corrcoef(column["smiling"], column["open_mouth"])[0, 1] > 0.2
    assert np.corrcoef(column["long_hair"], column["beard"])[0, 1] < -0.2
    assert np.corrcoef(column["skin_tone"], column["hair_tone"])[0, 1] < -0.2


def test_written_files_read_back(tmp_path) -> None:
    faces = sketch_faces(5, 16, seed=2)
    table = write_sketch_faces(tmp_path / "new" / "faces", 5, 16, seed=2)
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", *LABELS]
    assert [row["file"] for row in rows] == faces.names
    for name in LABELS:
        np.testing.assert_array_equal([float(row[name]) for row in rows], faces.labels[name])
    assert {row[name] for row in rows for name in BINARY} == {"0", "1"}
    for row, image in zip(rows, faces.images, strict=True):
        with Image.open(table.parent / row["file"]) as file:
            np.testing.assert_array_equal(np.asarray(file), image)


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="size = 4"):
        draw_face(PLAIN, 4)
    with pytest.raises(ValueError, match="count = -1"):
        sketch_faces(-1)
    with pytest.raises(ValueError, match="chunk = 0"):
        next(draw_chunks(3, 16, chunk=0))
    for name in CONTINUOUS:
        with pytest.raises(ValueError, match=f"{name} = 1000"):
            replace(PLAIN, **{name: 1000})
    with pytest.raises(ValueError, match="look = -1"):
        Face(look=-1)
