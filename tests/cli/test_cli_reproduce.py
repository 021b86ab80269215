"""`diffae reproduce`: everything is trained and measured once, a second call continues, and bad input is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Run, one_line
from tiny import tiny_config

from diffae.cli import reproduce, train, train_plan
from diffae.cli.prior import TrainPrior
from diffae.config import PriorConfig
from diffae.evaluation import costs, study
from diffae.evaluation.costs import Speeds
from diffae.training.settings import TrainingConfig

FAST = Speeds(training=1e4, baseline=1e4, prior=1e6, calls=1e5, encoding=1e5, seeing=1e5, comparing=1e5)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny preset, a machine whose speed is known, and one task that fits into every budget."""
    settings = TrainingConfig(images=16, batch_size=4, val_images=2, precision="float32")
    for module in (reproduce, train_plan):
        monkeypatch.setattr(module, "presets", lambda recipe: {"small32": (tiny_config(), settings)})
    priors = {"small32": (PriorConfig(2, 8), TrainingConfig(images=64, batch_size=16))}
    monkeypatch.setattr(reproduce, "prior_presets", lambda: priors)
    monkeypatch.setattr("diffae.presets.prior_presets", lambda: priors)
    monkeypatch.setattr(costs, "measure_speeds", lambda *_, **__: FAST)
    monkeypatch.setattr(study, "affordable", lambda _, tasks, *__: [task for task in tasks if task == "variation"])
    monkeypatch.setattr(study, "_LEAST_IMAGES", 8)
    monkeypatch.setattr(study, "_LEAST_CODES", 32)


def plan() -> dict[str, Any]:
    return json.loads(Path("study/plan.json").read_text())


def test_everything_is_trained_and_measured_and_a_second_call_continues(run: Run, faces: Path, tiny: None) -> None:
    words = ("reproduce", faces, "--out", "study", "--labels", faces / "labels.csv", "--budget", "1h")
    code, out, err = run(*words)
    assert code == 2, err
    assert "denoising was left out: the budget is spent; give more by --budget" in err
    assert "Networks see 16 images, 3,000,000 times fewer than the paper's shortest training" in err
    assert "no: detection takes too long" in out
    assert plan()["done"] == ["autoencoder", "DDIM baseline", "latent prior"]
    assert list(plan()["shares"]) == ["variation"]
    found = json.loads(Path("study/report/results.json").read_text())
    assert list(found["tasks"]) == ["variation"]
    assert found["DDIM baseline"].startswith("study/ddim")
    assert Path("study/report/index.html").is_file()
    for kept in ("study/model/prior.safetensors", "study/ddim/model.safetensors"):
        assert Path(kept).is_file()
    code, _, err = run(*words)
    assert code == 2
    assert "continuing: " in err
    assert "variation: there already" in err
    assert "images to see" not in err  # nothing is trained again


def test_an_interrupted_reproduction_trains_on(
    run: Run, faces: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("reproduce", faces, "--out", "study", "--budget", "1h")
    with monkeypatch.context() as stopped:
        stopped.setattr(TrainPrior, "run", lambda _: 130)
        assert run(*words)[0] == 130
    assert plan()["done"] == ["autoencoder", "DDIM baseline"]
    trained = Path("study/ddim/model.safetensors").stat().st_mtime_ns
    assert run(*words)[0] == 2
    assert plan()["done"][-1] == "latent prior"
    assert Path("study/ddim/model.safetensors").stat().st_mtime_ns == trained


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "soon"), "budget is 'soon': must be a time such as 2h, 90min or 1h30min"),
        (("--budget", "1h", "--seed", "1"), "study was begun with seed = 0, not 1: choose another --out"),
    ],
)
def test_bad_input(run: Run, faces: Path, tiny: None, monkeypatch: pytest.MonkeyPatch, words: Any, said: str) -> None:
    monkeypatch.setattr(train.Train, "run", lambda _: 143)
    assert run("reproduce", faces, "--out", "study", "--budget", "1h")[0] == 143
    code, _, err = run("reproduce", faces, "--out", "study", *words)
    assert code == 2
    assert said in one_line(err)


def test_a_budget_too_short_for_anything(run: Run, faces: Path, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "affordable", lambda *_: [])
    code, _, err = run("reproduce", faces, "--out", "study", "--budget", "5s")
    assert code == 2
    assert "budget is 5 s: on this machine it must be more than" in one_line(err)
