"""The room Training, and runs of which something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tiny_studio import noise_faces, save_run

from diffae.errors import CheckpointError
from diffae.studio.app import create_app
from diffae.studio.context import Studio, open_studio
from diffae.studio.rooms.training import progress_of


def write_metrics(folder: Path, images: int = 400, total: int = 1000) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"training": {"images": total}}))
    lines = [{"step": k, "images": k * 10, "loss": 1 / k, "images_per_second": 60.0} for k in range(1, images // 10)]
    lines.append({"step": images // 10, "images": images, "val_loss": 0.1, "val_loss_shuffled": 0.3})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 41, "ima')


def test_curves_and_time_left(tmp_path: Path) -> None:
    write_metrics(tmp_path)
    found = progress_of(tmp_path)  # the last line is just being written
    assert (found.images, found.total, found.seconds_left) == (400, 1000, 10)
    assert found.curves["loss"][0] == (10, 1)
    assert found.curves["val_loss_shuffled"] == [(400, 0.3)]
    write_metrics(tmp_path, images=1000)
    assert progress_of(tmp_path).seconds_left is None


def test_long_curves_are_thinned(tmp_path: Path) -> None:
    write_metrics(tmp_path, images=20_000, total=20_000)
    loss = progress_of(tmp_path).curves["loss"]
    assert 300 < len(loss) <= 601
    assert loss[-1][0] == 19_990


def opened(run: Path, folder: Path) -> Studio:
    return open_studio(run, lambda model: noise_faces(folder), name="runs/new")


def test_a_run_that_is_being_trained(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_metrics(run)
    (run / "samples").mkdir()
    (run / "samples" / "000000400.png").write_bytes(b"a sheet")
    with TestClient(create_app(opened(run, tmp_path))) as client:
        info = client.get("/api/studio").json()
        assert "no weights yet" in info["missing"]["edit"]
        assert "training" not in info["missing"]
        assert client.get("/api/training").json()["samples"] == ["000000400.png"]
        assert client.get("/api/training/samples/000000400.png").content == b"a sheet"
        assert client.get("/api/training/samples/config.json").status_code == 404
        refused = client.post("/api/sample", json={})
        assert refused.status_code == 409
        assert "no weights yet" in refused.json()["error"]
        save_run(run, prior=False, attributes=False)  # the first weights
        info = client.get("/api/studio").json()
        assert "edit" not in info["missing"]
        assert "diffae train-prior runs/new" in info["missing"]["sample"]
        assert "diffae attributes fit runs/new" in client.post("/api/edit", json={"picture": "x", "changes": {}}).text


def test_no_data_set(tmp_path: Path) -> None:
    def absent(model: object) -> None:
        raise CheckpointError("no images are given: name some by --images")

    studio = open_studio(save_run(tmp_path / "run"), absent)  # pyright: ignore[reportArgumentType]
    assert studio.model is not None
    studio.gallery.prepare(studio.gallery._model)  # pyright: ignore[reportArgumentType]
    assert studio.missing()["map"] == "no images are given: name some by --images"
    studio.close()


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run folder"):
        opened(tmp_path, tmp_path)
