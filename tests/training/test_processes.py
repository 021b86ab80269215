"""Two processes train as one: the same losses, validations and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job_steps
import numpy as np
import pytest
from jobs import run_job
from PIL import Image

from diffae.data.pack import Pack


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, without the speed."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in found]


def assert_same_lines(one: Path, two: Path) -> None:
    expected = lines(one)
    assert any("val_loss" in line for line in expected)
    for line, other in zip(expected, lines(two), strict=True):
        assert other == pytest.approx(line, rel=1e-6), line["step"]


def test_with_a_gathered_contrastive_loss(pack: Pack, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert job_steps.train(pack.path, one)
    assert run_job(job_steps.train, pack.path, two) == [True, True]
    assert_same_lines(one, two)
    pictures = [np.asarray(Image.open(next((run / "samples").iterdir()))).astype(int) for run in (one, two)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_prior(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    assert job_steps.train_prior(one, codes)
    assert run_job(job_steps.train_prior, two, codes) == [True, True]
    assert_same_lines(one / "prior", two / "prior")
