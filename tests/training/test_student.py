"""Distillation: the student's targets, its training, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny import images, normal, tiny_model

from diffae.config import Sampling
from diffae.data.pack import Pack
from diffae.diffusion.solvers import DDIM
from diffae.errors import CheckpointError, ConfigError
from diffae.model import DiffusionAutoencoder
from diffae.model.student import STEPS, STUDENT, Student, milestones, path
from diffae.training.settings import TrainingConfig
from diffae.training.student import Lessons, student_settings, student_training, train_student
from diffae.training.trajectories import Trajectories, trajectories

TEACHER = Sampling(8)
TRAINING = TrainingConfig(images=32, batch_size=8, save_every=16, validate_every=32, precision="float32")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def model() -> DiffusionAutoencoder:
    return tiny_model()


@pytest.fixture(scope="module")
def lessons(model: DiffusionAutoencoder, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    rows = torch.arange(6).numpy()
    return trajectories(model, pack, rows, TEACHER, 0, tmp_path_factory.mktemp("cache"), lambda done: None)


def trained(folder: Path, model: DiffusionAutoencoder, lessons: Trajectories, **more: bool) -> bool:
    return train_student(folder, model, lessons, images(2), TRAINING, teacher=TEACHER, console=QUIET, **more)


def test_states_lie_on_the_decoders_trajectory(model: DiffusionAutoencoder, lessons: Trajectories, pack: Pack) -> None:
    assert lessons.states.shape == (6, 5, 3, 16, 16)
    assert lessons.z_sem is not None
    ends = model.decode(z_sem=lessons.z_sem, x_T=lessons.states[:, -1], sampling=TEACHER)
    torch.testing.assert_close(lessons.states[:, 0], ends, atol=0.02, rtol=0.02)  # kept in float16
    own = torch.from_numpy(pack.fetch(torch.arange(3).numpy())).permute(0, 3, 1, 2) / 127.5 - 1
    alike = torch.nn.functional.cosine_similarity(lessons.states[:3, 0].flatten(1), own.flatten(1))
    assert (alike > 0.95).all()  # half of them are of the images themselves


def test_trajectories_are_made_once(
    model: DiffusionAutoencoder, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = torch.arange(2).numpy()
    first = trajectories(model, pack, rows, TEACHER, 0, tmp_path, lambda done: None)
    monkeypatch.setattr(DiffusionAutoencoder, "predict_noise", None)
    again = trajectories(model, pack, rows, TEACHER, 0, tmp_path, lambda done: None)
    assert torch.equal(first.states, again.states)
    with pytest.raises(TypeError):  # another seed needs the network
        trajectories(model, pack, rows, TEACHER, 1, tmp_path, lambda done: None)


def test_the_target_leads_to_the_teachers_state(model: DiffusionAutoencoder) -> None:
    levels = milestones(TEACHER, 1000)
    steps, states = Lessons(levels, model.alpha_bar), normal(1, 5, 3, 4, 4)
    torch.testing.assert_close(steps.share.sum(), torch.tensor(1.0))
    for k in STEPS:
        down = path(levels, k)[::-1]
        for number in range(len(steps.t)):
            if int(steps.t[number]) not in down:
                continue
            which = torch.tensor([number])
            x_t, x_s = states[:, steps.above[number]], states[:, steps.below[number]]
            t = int(steps.t[number])
            s = down[down.index(t) + 1]
            wanted = steps.target(which, x_t, x_s)
            eps = (x_t - model.alpha_bar[t] ** 0.5 * wanted) / (1 - model.alpha_bar[t]) ** 0.5
            two = [0, t] if s == 0 else [0, s, t]
            stop = DDIM().decode(lambda x, level, eps=eps: eps, x_t, two, model.alpha_bar)
            end = x_s if s == 0 else (x_s - (1 - model.alpha_bar[s]) ** 0.5 * eps) / model.alpha_bar[s] ** 0.5
            torch.testing.assert_close(stop, end.to(stop), atol=1e-3, rtol=1e-3)


def test_paths_share_no_level_above_0() -> None:
    levels = milestones(Sampling(), 1000)
    above = [level for steps in STEPS for level in path(levels, steps)[1:]]
    assert len(set(above)) == len(above) == sum(STEPS)
    with pytest.raises(ConfigError, match="steps is 3: must be at least 4"):
        milestones(Sampling(3), 1000)
    with pytest.raises(ConfigError, match="levels is 8: level 2 of 8 steps is too near the image"):
        milestones(Sampling(8), 8)


def test_a_student_is_trained_kept_and_used(tmp_path: Path, model: DiffusionAutoencoder, lessons: Trajectories) -> None:
    model.save_pretrained(tmp_path)
    assert trained(tmp_path, model, lessons)
    metrics = [json.loads(line) for line in (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()]
    assert {f"psnr_{steps}" for steps in STEPS} <= metrics[-1].keys() | metrics[-2].keys()
    loaded = DiffusionAutoencoder.from_pretrained(tmp_path, "cpu")
    code = model.encode(images(2), TEACHER)
    for steps in STEPS:
        seen: list[int] = []
        x = loaded.decode(code, sampling=Sampling.student(steps), callback=lambda t, x, seen=seen: seen.append(t))
        assert len(seen) == steps
        assert x.shape == (2, 3, 16, 16)
    assert student_settings(tmp_path, model.fingerprint()) == (TRAINING, 6)
    with pytest.raises(ConfigError, match="steps is 3: the student was trained for 1, 2 or 4"):
        loaded.decode(code, sampling=Sampling.student(3))
    with pytest.raises(ConfigError, match=r"solver is 'student': makes pictures by .* and cannot encode"):
        loaded.encode(images(1), Sampling.student())
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / STUDENT).is_file()


def test_training_goes_on_as_if_never_interrupted(
    tmp_path: Path, model: DiffusionAutoencoder, lessons: Trajectories
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert trained(whole, model, lessons)
    half = dataclasses.replace(TRAINING, images=16)
    assert train_student(parts, model, lessons, images(2), half, teacher=TEACHER, console=QUIET)
    assert trained(parts, model, lessons, resume=True)
    a, b = load_file(whole / STUDENT), load_file(parts / STUDENT)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[f"{name}"], value) for name, value in model.decoder.state_dict().items())
    with pytest.raises(CheckpointError, match="has a student already: continue with --resume"):
        trained(whole, model, lessons)
    other = dataclasses.replace(TRAINING, batch_size=4)
    with pytest.raises(CheckpointError, match="was trained with batch_size = 8, not 4"):
        train_student(whole, model, lessons, images(2), other, teacher=TEACHER, console=QUIET, resume=True)


def test_the_student_of_another_decoder_is_refused(tmp_path: Path, model: DiffusionAutoencoder) -> None:
    other = tiny_model(seed=5)
    other.save_pretrained(tmp_path)
    Student.of(model, model.decoder, TEACHER).save(tmp_path, model)
    with pytest.raises(CheckpointError, match=r"belongs to a model with fingerprint .*: distil it again"):
        DiffusionAutoencoder.from_pretrained(tmp_path, "cpu").require_student()
    (tmp_path / STUDENT).unlink()
    with pytest.raises(ConfigError, match="no student to decode by: make one with `diffae distill`"):
        DiffusionAutoencoder.from_pretrained(tmp_path, "cpu").require_student()


def test_a_student_is_trained_as_its_decoder_but_shorter() -> None:
    decoder = TrainingConfig(images=5000, optimizer="muon", learning_rate=1e-3)
    config = student_training(decoder)
    assert (config.images, config.optimizer, config.learning_rate) == (500, "muon", 1e-3)
    assert student_training(decoder, 64).images == 64
