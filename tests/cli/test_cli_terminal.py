"""Text from files and users is printed literally: no markup, no control characters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Run, first, one_line, save_model

from diffae.cli.common import drawing_faces
from diffae.cli.terminal import busy, counted, note, print_facts, print_table, say, warn
from diffae.errors import DataError
from sketchfaces import sketch_faces

ODD = "[/x] [red]:smile: \x1b[31m"
SHOWN = "[/x] [red]:smile: \\x1b[31m"


def test_every_way_to_print_is_literal(capsys: pytest.CaptureFixture[str]) -> None:
    say(ODD, ODD)
    print_table((ODD, "n"), [(ODD, ODD)])
    print_facts([(ODD, ODD)])
    out, err = capsys.readouterr()
    assert out.count(SHOWN) == 7
    assert err == ""
    note(ODD)
    warn(ODD, ODD)
    with busy(ODD):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{SHOWN}\ndiffae: warning: {SHOWN}\n  {SHOWN}\n"


def test_counts_in_words() -> None:
    assert [counted(1), counted(2000), counted(2, "label")] == ["1 image", "2,000 images", "2 labels"]


def test_names_in_a_run(run: Run, tmp_path: Path) -> None:
    """As run folder, as name of a preset in config.json, and in an error."""
    folder = save_model(tmp_path / "[" / "x]")
    config = json.loads((folder / "config.json").read_text())
    config["data"] = {"preset": ODD}
    config["training"] = {"images": 8, "batch_size": 4}
    (folder / "config.json").write_text(json.dumps(config))
    code, out, err = run("info", folder)
    assert (code, err) == (0, "")
    assert SHOWN in out
    code, _, err = run("info", f"{folder}/{ODD}")
    assert code == 2
    assert SHOWN in one_line(err)


def test_names_of_images(run: Run, model: Path, faces: Path) -> None:
    Path("photos").mkdir()
    shutil.copy(first(faces, 1)[0], "photos/good.png")
    Path("photos/[x]\x1b[31m.png").write_bytes(b"not an image")
    code, out, err = run("encode", model, "photos", "--out", "codes.safetensors")
    assert code == 0
    assert "image [x]\\x1b[31m.png" in err
    assert "\x1b" not in out + err


def test_sizes_that_cannot_be_drawn_are_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="faces cannot be drawn for this model: size = 4"), drawing_faces():
        sketch_faces(1, 4)
    with pytest.raises(DataError, match=r"^mine$"), drawing_faces():
        raise DataError("mine")
    small = save_model(tmp_path / "small", image_size=4, attention_resolutions=())
    monkeypatch.setattr("diffae.pretrained.pretrained_path", lambda: small)
    code, _, err = run("demo", "--out", "demo")
    assert code == 2
    assert "faces cannot be drawn" in one_line(err)


def test_an_unexpected_error_is_one_line_with_a_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("diffae.cli.info.Info.run", fail)
    code, _, error = run("info", "somewhere")
    assert code == 1
    assert one_line(error).startswith(
        "diffae: error: unexpected RuntimeError: two lines; this is a bug: please report it"
    )
    log = Path(error.split()[-1])
    assert "Traceback" in log.read_text()
    log.unlink()
    with pytest.raises(RuntimeError):
        run("--debug", "info", "somewhere")


def test_parts_from_outside_are_imported_only_with_trust_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["model"]["encoder"]["kind"] = "outside:Encoder"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    module = "from diffae.config import UNetEncoderConfig\n\nclass Encoder(UNetEncoderConfig):\n    pass\n"
    (tmp_path / "outside.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    code, _, error = run("info", str(tmp_path / "run"))
    assert code == 2
    assert "'outside:Encoder': is code outside diffae" in one_line(error)
    code, output, _ = run("--trust-code", "info", str(tmp_path / "run"))
    assert code == 0
    assert "z_sem" in output


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        "5",
        "null",
        '{"images": "many", "val_loss": 1}',
        '{"images": 4, "val_loss": [1]}',
        '{"images": 1e400, "val_loss": 0.5}',
        f'{{"images": {10**400}, "val_loss": 0.5}}',
        '{"images": 4, "val_loss": 0, "val_loss_shuffled": 1}',
        '{"images": 4, "val_loss": "[/x]"}',
        "\x00\xff",
    ],
)
def test_info_on_odd_metrics(run: Run, tmp_path: Path, line: str) -> None:
    folder = save_model(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "training": {"images": 8, "batch_size": 4}}))
    (folder / "metrics.jsonl").write_bytes(line.encode("latin-1"))
    code, out, err = run("info", folder)
    assert (code, err) == (0, "")
    assert "8 images, 4 at a time" in out


@pytest.mark.parametrize("training", [5, [], {"images": "8"}, {"images": 8}, {"images": 8, "batch_size": 0}])
def test_info_on_an_odd_length_of_training(run: Run, tmp_path: Path, training: object) -> None:
    folder = save_model(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "training": training}))
    code, _, err = run("info", folder)
    assert (code, err) == (0, "") if not training else code == 2
    assert not training or "these must be counts" in one_line(err)


def test_a_full_standard_output_is_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's always full device")
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "diffae", "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
