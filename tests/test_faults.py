"""Kills, locks and concurrent writers: what is on disk afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from training_run import MODEL, TRAINING

from diffae import checkpoint
from diffae.data.pack import Pack
from diffae.errors import CheckpointError, TrainingError
from diffae.training.autoencoder import replaced, train_autoencoder


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    images = torch.randint(0, 256, (24, 16, 16, 3), dtype=torch.uint8).numpy()
    return Pack.from_arrays([images], tmp_path_factory.mktemp("data") / "noise.pack")


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds a folder."""
    script = f"""
import sys
from pathlib import Path
from diffae.data.locks import in_use
with in_use(Path({str(folder)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_the_run(pack: Pack, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train_autoencoder(pack, run, MODEL, TRAINING)
    before = (run / "metrics.jsonl").read_bytes()
    with holder(run) as other:
        for resume in (True, False):
            with pytest.raises(CheckpointError, match=f"is in use by process {other.pid} on .*: wait until it ends"):
                train_autoencoder(pack, run, MODEL, TRAINING, resume=resume, overwrite=not resume)
    assert (run / "metrics.jsonl").read_bytes() == before
    assert train_autoencoder(pack, run, MODEL, TRAINING, resume=True)  # a killed holder holds nothing


def test_a_replaced_run_is_kept_until_the_new_one_has_saved(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert train_autoencoder(pack, run, MODEL, TRAINING)
    weights = (run / checkpoint.WEIGHTS).read_bytes()
    for _ in "ab":  # the second time what is replaced has saved nothing, and the first run stays
        with monkeypatch.context() as patch:
            patch.setattr("diffae.training.trainer.Trainer.take_step", _killed)
            with pytest.raises(OSError, match="killed"):
                train_autoencoder(pack, run, MODEL, TRAINING, overwrite=True)
        assert (replaced(run) / checkpoint.WEIGHTS).read_bytes() == weights
    assert train_autoencoder(pack, run, MODEL, TRAINING, overwrite=True)
    assert not replaced(run).exists()


def _killed(*_: object) -> None:
    raise OSError("killed")


def test_a_folder_that_was_killed_before_its_first_file_is_trained_in(pack: Pack, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.json.0-1-2.part").write_text("{")
    assert train_autoencoder(pack, run, MODEL, TRAINING)


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "0")
    with checkpoint.written_beside(tmp_path / "file") as temporary:
        name = temporary.parent.name
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(TrainingError, match="cannot write"), checkpoint.written_beside(tmp_path / "file"):
        pass
    assert list(victim.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with checkpoint.written_beside(tmp_path / "elsewhere" / "file") as temporary:
        mine = temporary.parent.name.split("-")[1]
    left = tmp_path / temporary.parent.name.replace(f"-{mine}-", f"-{dead.pid}-")
    living = tmp_path / temporary.parent.name  # of this process
    for folder in (left, living):
        folder.mkdir()
        (folder / ".tmp1").write_text("half")  # safetensors has temporary files of its own
    with checkpoint.written_beside(tmp_path / "other.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_text("whole")
    assert not left.exists()
    assert living.exists()
    assert (tmp_path / "other.png").read_text() == "whole"


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with checkpoint.written_beside(tmp_path / "file") as temporary:
            temporary.write_text(f"{number}" * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    text = (tmp_path / "file").read_text()
    assert text == text[: len(text) // 1000] * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
