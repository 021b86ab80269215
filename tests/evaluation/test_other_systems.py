"""Samples, edits and reconstructions of other systems: rows of the tables, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffae.data.images import to_uint8
from diffae.errors import DataError, DiffaeError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.material import Images
from diffae.evaluation.other_systems import OtherSystems, open_systems
from diffae.evaluation.results import Result, Table
from diffae.evaluation.tasks import reconstruction

SHAPE = (3, 16, 16)


def write(folder: Path, pixels: np.ndarray, names: list[str]) -> str:
    """Write images as PNGs under these names; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    return str(folder)


def pixels(images: Images) -> tuple[np.ndarray, list[str]]:
    return to_uint8(images.tensor()), [images.pack.names[int(row)] for row in images.rows]


def having(context: EvaluationContext, systems: OtherSystems) -> EvaluationContext:
    return dataclasses.replace(context, systems=systems, out=context.out / "others")


def rows(table: Table, name: str) -> list[tuple]:
    return [row for row in table.rows if name in row]


def test_a_copy_of_the_unseen_images_is_a_perfect_reconstruction_and_images_are_found_by_name(
    context: EvaluationContext, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "_WAYS", {way: reconstruction._WAYS[way] for way in ("exact", "explicit")})
    monkeypatch.setattr(EvaluationContext, "baselines", lambda *_: ())
    images, names = pixels(context.test)
    folder = write(tmp_path / "copy", images, names)
    systems = open_systems((), (), (f"copy={folder}",), SHAPE, tmp_path / "cache")
    [row] = rows(run("reconstruction", having(context, systems)).tables[0], "copy")
    assert row[2] is None
    assert row[-2].value < 1e-4  # mean squared error
    write(tmp_path / "shifted", images, [*names[1:], names[0]])  # the right images under the wrong names
    systems = open_systems((), (), (f"shifted={tmp_path / 'shifted'}",), SHAPE, tmp_path / "cache")
    assert rows(run("reconstruction", having(context, systems)).tables[0], "shifted")[0][-2].value > 0.01


def test_a_missing_reconstruction_is_named(
    context: EvaluationContext, run: Callable[..., Result], tmp_path: Path
) -> None:
    images, names = pixels(context.test.at(slice(2, None)))
    folder = write(tmp_path / "few", images, names)
    systems = open_systems((), (), (f"few={folder}",), SHAPE, tmp_path / "cache")
    with pytest.raises(DataError, match="reconstructions few: 2 of 3 unseen images have no reconstruction, for inst"):
        run("reconstruction", having(context, systems))


def test_real_images_are_the_nearest_samples(
    context: EvaluationContext, run: Callable[..., Result], tmp_path: Path
) -> None:
    images, names = pixels(context.test)
    real, black = write(tmp_path / "a", images, names), write(tmp_path / "b", images // 8, names)
    systems = open_systems((f"real={real}", f"black={black}"), (), (), SHAPE, tmp_path / "cache")
    table = run("generation", having(context, systems)).tables[-1]
    near, far = (rows(table, name)[0] for name in ("real", "black"))
    assert near[1] == far[1] == 24
    assert abs(near[-1].value) < 0.1 * far[-1].value


def test_edits_of_another_system_are_compared_with_their_originals(
    context: EvaluationContext, run: Callable[..., Result], tmp_path: Path
) -> None:
    lacking = context.test.having("red", 0)
    images, names = pixels(lacking)
    write(tmp_path / "edits" / "red", images, names)  # an edit that does nothing
    systems = open_systems((), (f"nothing={tmp_path / 'edits'}",), (), SHAPE, tmp_path / "cache")
    found = run("manipulation", having(context, systems))
    [row], [identity] = (rows(table, "nothing") for table in found.tables)
    between, toward, near = (cell.value for cell in row[2:5])
    assert toward == pytest.approx(between, rel=0.3)  # no nearer to images with the attribute than those without are
    assert abs(near) < 0.2 * between
    assert identity[2].value == pytest.approx(1, abs=1e-3)
    assert identity[3] is None
    assert found.claims == run("manipulation").claims  # other systems decide nothing


BAD = [
    ((("a",), (), ()), "samples is 'a': must be NAME=DIR"),
    ((("a={twenty}", "a={twenty}"), (), ()), "samples names 'a' twice"),
    ((("a=nowhere",), (), ()), "samples a: nowhere is not a folder"),
    ((("a={few}",), (), ()), "at least 20"),
    ((("a={mixed}",), (), ()), "are of several sizes: 00.png has 16 x 16 pixels, 99.png 8 x 8; give those of one size"),
    (((), ("a={twenty}",), ()), "must hold a folder for each attribute"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_folders(given: tuple[tuple[str, ...], ...], message: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (21, 16, 16, 3), dtype=np.uint8)
    names = [f"{number:02d}" for number in range(20)]
    folders = {name: write(tmp_path / name, noise[:20], names) for name in ("twenty", "mixed")}
    folders["few"] = write(tmp_path / "few", noise[:5], names[:5])
    write(tmp_path / "mixed", noise[20:, :8, :8], ["99"])
    samples, edits, back = ([text.format(**folders) for text in option] for option in given)
    with pytest.raises(DiffaeError, match=message.replace("(", r"\(")):
        open_systems(samples, edits, back, SHAPE, tmp_path / "cache")
