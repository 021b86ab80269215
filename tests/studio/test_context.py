"""What a studio makes of a run: its student, and the data set of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tiny_studio import noise_faces, save_run

from diffae.cli import main
from diffae.config import Sampling
from diffae.model import DiffusionAutoencoder
from diffae.model.student import Student
from diffae.studio.app import create_app
from diffae.studio.context import open_studio


def test_a_student_draws_while_a_slider_is_dragged(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    model = DiffusionAutoencoder.from_pretrained(run, "cpu")
    Student.of(model, model.decoder, Sampling()).save(run, model)
    studio = open_studio(run, lambda model: noise_faces(tmp_path))
    assert studio.draft == Sampling.student(2)
    studio.exact = Sampling(steps=4)
    with TestClient(create_app(studio)) as client:
        assert client.get("/api/studio").json()["student"] is True
        while not client.get("/api/studio").json()["data"]["images"]:
            pass
        picture = client.post("/api/pictures/of-data/0").json()
        draft = client.post("/api/edit", json={"picture": picture["id"], "changes": {}}).json()
        again = client.post("/api/edit", json={"picture": picture["id"], "changes": {}, "exact": True}).json()
        assert draft["image"] != again["image"]  # two steps are not four


def test_without_a_student_a_draft_takes_few_steps(tmp_path: Path) -> None:
    studio = open_studio(save_run(tmp_path / "run"), lambda model: noise_faces(tmp_path))
    assert not studio.has_student
    assert studio.draft.steps < studio.exact.steps
    studio.close()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("studio", "nowhere"), "is not a run folder"),
        (("studio", "--port", "70000"), "port is 70000: must lie in 0..65535"),
        (("studio", "--labels", "none.csv"), "labels none.csv: do not exist"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *([] if "--port" in words else ["--port", "0"])]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
