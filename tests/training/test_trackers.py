"""Experiment trackers: what they are given, and packages that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate import PartialState
from PIL import Image
from rich.console import Console

from diffae.errors import ConfigError
from diffae.training.logger import SAMPLES, Logger
from diffae.training.trackers import Tracker, flat, require_installed


def test_tensorboard_gets_numbers_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    PartialState()
    (tmp_path / SAMPLES).mkdir()
    Image.new("RGB", (9, 8)).save(tmp_path / SAMPLES / "000000064.png")
    with Logger(tmp_path, 64, Console(quiet=True), [Tracker("tensorboard", tmp_path, {"seed": 1})]) as logger:
        logger.report(1, 64, loss=0.5)
        logger.picture(64)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(64, 0.5)]
    picture = events.Images("validation")[0]
    assert (picture.step, picture.height, picture.width) == (64, 8, 9)


def test_a_tracker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="track is mlflow: that package is not installed; pip install mlflow"):
        require_installed(["mlflow"])


def test_settings_are_flattened() -> None:
    settings = {"a": {"b": 1, "c": {"d": None}}, "e": (1, 2)}
    assert dict(flat(settings)) == {"a.b": "1", "a.c.d": "None", "e": "(1, 2)"}
