"""The page of results: all numbers come from results.json; charts are copied, pictures of images only on request."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from diffae.evaluation.results import Claim, Outcome, Picture, Result, Table, picture_path
from diffae.evaluation.runner import RESULTS
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.tasks.generation import CLAIM_5

CLAIM = CLAIM_5[5]
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "write_results.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_results", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def report(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    table = Table("error", "Error", ("t", "ours|theirs"), ((1000, Estimate(0.25, 0.2, 0.3, 9)),), "Nine images.")
    pictures = (Picture("chart", "A chart", chart=True), Picture("people", "People"))
    found = Result((table,), pictures, (Claim(5, "not shown", "0.2 against 0.1", "too small"),), ("A note.",))
    outcomes = [
        Outcome("denoising", {}, 200.0, 50.0, found),
        Outcome("generation", {}, 0.1, 0.1, skipped="no features; name /some/where/net.onnx"),
    ]
    about = {"command": "diffae evaluate /some/folder/run --features /some/where/net.onnx", "seed": "0", "quick": True,
             "model": "run, fingerprint 1"}  # fmt: skip
    tasks = {outcome.task: outcome.to_json() for outcome in outcomes}
    (folder / RESULTS).write_text(json.dumps({**about, "tasks": tasks}))
    for picture in pictures:
        Image.new("RGB", (4, 4)).save(picture_path(folder, "denoising", picture.name))
    return folder


@pytest.mark.parametrize("with_images", [False, True])
def test_the_page_contains_all_results(
    script: ModuleType, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_images: bool
) -> None:
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    words = ["write_results", str(report), "--out", str(page), *(["--with-images", str(report)] if with_images else [])]
    monkeypatch.setattr("sys.argv", words)
    script.main()
    text = page.read_text()
    for part in (
        "## run", "**Quick run.**", "| command | `diffae evaluate run --features net.onnx` |", "| seed | 0 |",
        "| 1,000 | 0.2500 (0.2000 to 0.3000) |", "ours\\|theirs", "Nine images.", "A note.",
        "|  | claim | run |\n", f"| 5 | {CLAIM} | not shown |\n",
        "Took 3 minutes, 50 seconds of processor time.", "All tasks together took 3 minutes, 50 seconds",
        f"| 5 | {CLAIM} | not shown | 0.2 against 0.1. Why not: too small. |",
        "Left out: no features; name net.onnx.", "![A chart](images/faces-denoising-chart.png)",
    ):  # fmt: skip
        assert part in text, part
    assert "/some" not in text
    assert "[faces-results.json](faces-results.json)" in text
    numbers = page.parent / "faces-results.json"  # a report used to leave no numbers behind but those of the page
    assert "/some" not in numbers.read_text()
    copy, own = (json.loads(path.read_text()) for path in (numbers, report / RESULTS))
    assert copy["tasks"]["denoising"] == own["tasks"]["denoising"]
    assert copy["command"] == "diffae evaluate run --features net.onnx"
    assert ("people" in text) == with_images
    copied = {path.name for path in (page.parent / "images").iterdir()}
    assert copied == {f"faces-denoising-{name}.png" for name in (("chart", "people") if with_images else ("chart",))}
