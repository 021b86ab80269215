"""Drawing sketch faces, one or many, and writing them to files. The names are exported by `sketchfaces`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sketchfaces.canvas import Array, Canvas
from sketchfaces.hair import draw_back_hair, draw_beard, draw_front_hair, draw_hat
from sketchfaces.page import draw_background, draw_body
from sketchfaces.parts import draw_ear, draw_earrings, draw_eyes, draw_glasses, draw_head, draw_mouth, draw_nose
from sketchfaces.scene import RANGES, Face, Scene

BINARY = ("smiling", "open_mouth", "glasses", "hat", "beard", "long_hair", "earrings")
CONTINUOUS = tuple(RANGES)
LABELS = BINARY + CONTINUOUS


@dataclass(frozen=True)
class SketchFaces:
    """Drawn faces with their labels."""

    images: Array
    """uint8 [0, 255] (count, size, size, 3)."""
    labels: dict[str, Array]
    """float64 (count,) for each name in `LABELS`: 0 or 1 for those in `BINARY`, otherwise in the units of `Face`."""
    names: list[str]
    """File names: "sketch_000000.png", ..."""


def random_face(seed: int, index: int) -> Face:
    """Draw the labels and seeds of face number `index` of `seed` at random.

    | label | how often, or range | depends on |
    |---|---|---|
    | smiling | 0.50 | |
    | open_mouth | 0.36 | 0.50 if smiling, else 0.22 |
    | glasses | 0.25 | 0.16 below 45 years, 0.40 above |
    | hat | 0.22 | |
    | beard | 0.20 | none below 18 years; above, 0.42 with short hair, 0.06 with long |
    | long_hair | 0.42 | |
    | earrings | 0.28 | 0.50 with long hair, else 0.12; the far one is out of sight in a turned head |
    | head_turn | -1..1, uniform | |
    | age | 5..80 years, more young than old, mean 39 | |
    | light_direction | -1..1, uniform | |
    | skin_tone | 0..1, slightly more light than dark | |
    | hair_tone | 0..1 | darker with darker skin; greying hides it in the old |
    | background_hue | 20..320 degrees, uniform | |
    """
    rng = np.random.default_rng([seed, index])
    u = rng.random(13)
    age = float(np.round(5 + 75 * u[0] ** 1.25, 1))
    smiling, long_hair, skin = bool(u[1] < 0.50), bool(u[2] < 0.42), float(u[3] ** 1.15)
    return Face(
        smiling=smiling,
        open_mouth=bool(u[4] < (0.50 if smiling else 0.22)),
        glasses=bool(u[5] < (0.16 if age < 45 else 0.40)),
        hat=bool(u[6] < 0.22),
        beard=bool(age >= 18 and u[7] < (0.06 if long_hair else 0.42)),
        long_hair=long_hair,
        earrings=bool(u[8] < (0.50 if long_hair else 0.12)),
        head_turn=float(2 * u[9] - 1),
        age=age,
        light_direction=float(2 * u[10] - 1),
        skin_tone=skin,
        hair_tone=float(u[11] ** (0.8 + 2.0 * skin)),
        background_hue=float(20 + 300 * u[12]),
        look=int(rng.integers(2**31)),
        detail=int(rng.integers(2**31)),
    )


def draw_face(face: Face, size: int = 64) -> Array:
    """Draw one face; it is the same at every size.

    Returns:
        uint8 [0, 255] (size, size, 3).
    Raises:
        ValueError: `size` is below 8.
    """
    if size < 8:
        raise ValueError(f"size = {size}: a sketch face needs at least 8 pixels; give a larger size")
    oversampling = 2 if size <= 160 else 1
    scene = Scene(face, Canvas(size * oversampling))
    draw_background(scene)
    draw_back_hair(scene)
    draw_body(scene)
    draw_head(scene)
    if face.beard:
        draw_beard(scene)
    draw_mouth(scene)
    draw_eyes(scene)
    draw_nose(scene)
    draw_front_hair(scene)
    if not face.long_hair:  # short hair is combed behind the ears that can be seen
        for side in (-1, 1):
            if side * face.head_turn < 0.1:
                draw_ear(scene, side)
    if face.glasses:
        draw_glasses(scene)
    if face.hat:
        draw_hat(scene)
    if face.earrings:
        draw_earrings(scene)
    return scene.canvas.finish(size)


def sketch_faces(count: int, size: int = 64, seed: int = 0, start: int = 0) -> SketchFaces:
    """Draw the faces `start` to `start + count - 1` of `seed`, each `size` pixels square.

    Raises:
        ValueError: `size` is below 8, or `count`, `seed` or `start` is negative.
    """
    for name, value in (("count", count), ("seed", seed), ("start", start)):
        if value < 0:
            raise ValueError(f"{name} = {value}: must not be negative; give 0 or more")
    faces = [random_face(seed, i) for i in range(start, start + count)]
    images = np.zeros((count, size, size, 3), np.uint8)
    for image, face in zip(images, faces, strict=True):
        image[...] = draw_face(face, size)
    labels = {name: np.array([getattr(face, name) for face in faces], np.float64) for name in LABELS}
    return SketchFaces(images, labels, [f"sketch_{i:06d}.png" for i in range(start, start + count)])


def draw_chunks(count: int, size: int = 64, seed: int = 0, chunk: int = 256) -> Iterator[SketchFaces]:
    """Draw the faces of `sketch_faces(count, size, seed)` in chunks, in constant memory.

    Raises:
        ValueError: see `sketch_faces`; or `chunk` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk = {chunk}: must be at least 1; give a larger number")
    for start in range(0, count, chunk):
        yield sketch_faces(min(chunk, count - start), size, seed, start)


def write_sketch_faces(folder: str | Path, count: int, size: int = 64, seed: int = 0) -> Path:
    """Write `count` faces as PNG files, and their labels as labels.csv, into a folder, which is created if necessary.

    The table has a column `file` and one for each of `LABELS`: 0 or 1, or a number in full precision.

    Returns:
        The path of labels.csv.
    Raises:
        ValueError: see `sketch_faces`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", *LABELS])
        for faces in draw_chunks(count, size, seed):
            for k, name in enumerate(faces.names):
                Image.fromarray(faces.images[k]).save(folder / name)
                binary = [int(faces.labels[label][k]) for label in BINARY]
                table.writerow([name, *binary, *(float(faces.labels[label][k]) for label in CONTINUOUS)])
    return folder / "labels.csv"
