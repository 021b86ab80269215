"""Every code block of the README and of docs/ works: Python is run, and so are commands, where they are cheap.

Commands that take minutes are parsed. What cannot be run or parsed has a comment above it that says why.
"""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blocks import ROOT, Block, blocks
from PIL import Image

import diffae
import diffae.cli
from diffae.cli.renamed import current
from sketchfaces import sketch_faces

BLOCKS = blocks()
PYTHON = [block for block in BLOCKS if block.language == "python" and not block.not_run]
COMMANDS = {
    command: block for block in BLOCKS if block.language == "sh" and not block.not_run for command in block.commands
}
"""Each command once, however many pages show it."""

SMALLER = {
    "attributes fit": "",
    "attributes predict": "",
    "attributes show": "",
    "decode": "",
    "denoise-path": "--steps 5",
    "edit": "--steps 5",
    "encode": "",
    "info": "",
    "interpolate": "--steps 5",
    "reconstruct": "--steps 5",
    "sample": "--count 2 --steps 2 --prior-steps 2",
    "train-prior": "--codes 512 --overwrite",
    "vary": "--count 2 --steps 2",
}
"""Commands that are run, if their files exist, with options that make them cheap. The others are parsed."""

CHEAPER = {
    "squeezenet.onnx": "squeezenet.pt",
    "images=100_000": "images=8, batch_size=8",
    "images=64, batch_size=16": "images=8, batch_size=8",
}
"""What is replaced in Python blocks."""

NOT_RUN = {
    "installs software",
    "installs software, and runs for minutes",
    "starts another program",
    "starts several processes",
    "needs the authors' checkpoints",
    "needs the published code",
    "needs a studio that is being served",
    "trains for an hour",
    "uploads",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the pages mention: PHOTOS, a.png, b.jpg, labels.csv, a run with prior and attributes."""
    folder = tmp_path_factory.mktemp("docs")
    faces = sketch_faces(24, 32, seed=0)
    for name in ("PHOTOS", "with_hat", "without_hat", "any"):
        (folder / name).mkdir()
        for file, image in zip(faces.names, faces.images, strict=True):
            Image.fromarray(image).save(folder / name / file)
    Image.fromarray(faces.images[0]).save(folder / "a.png")
    Image.fromarray(faces.images[1]).save(folder / "b.jpg")
    columns = {"smiling": "smiling", "Smiling": "smiling", "Young": "glasses", "hat": "hat", "age": "age"}
    rows = [["file", *columns]]
    for i, file in enumerate(faces.names):
        rows.append([file, *(str(float(faces.labels[label][i])) for label in columns.values())])
    (folder / "labels.csv").write_text("\n".join(map(",".join, rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        train = next(words for words in COMMANDS if words.startswith("diffae train PHOTOS"))
        for command in (
            f"{train} --image-size 16 --images 32 --batch-size 16",
            "diffae attributes fit runs/photos --labels labels.csv",
            "diffae train-prior runs/photos --codes 512",
            "diffae distill runs/photos --length 16 --trajectories 2",
            "diffae encode runs/photos PHOTOS --out codes.safetensors",
            "diffae encode runs/photos PHOTOS --out codes.parquet",
            "diffae encode runs/photos PHOTOS --out codes --labels labels.csv",
        ):
            assert diffae.cli.main(shlex.split(command)[1:]) == 0
        write_cells()
        write_network(folder / "squeezenet.pt")
        yield folder


def write_cells() -> None:
    """cells/ of docs/microscopy.md, a few of them, and runs/cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["cells.py", "cells", "--count", "12"])
        runpy.run_path(str(ROOT / "docs" / "examples" / "cells.py"), run_name="__main__")
    shutil.copy("cells/00011.tif", "cells/01900.tif")
    command = "train cells --out runs/cells --preset small32 --channels 2 --window percentile --image-size 16"
    assert diffae.cli.main([*command.split(), "--images", "32", "--batch-size", "16", "--contrastive", "0"]) == 0


class Colours(torch.nn.Module):
    """The mean colour as feature vector, the image itself as feature map."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean(dim=(2, 3)), x


def write_network(path: Path) -> None:
    """A feature network of vectors and maps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but in use
        torch.jit.save(torch.jit.trace(Colours(), torch.zeros(1, 3, 16, 16)), str(path))


@pytest.fixture
def inside(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    monkeypatch.chdir(workspace)
    return workspace


def assumed(page: str) -> dict[str, Any]:
    """What a page's Python takes as given, as its text says."""
    if page == "docs/attributes.md":
        labels = np.arange(12) % 2
        return {"paths": sorted(Path("PHOTOS").glob("*.png"))[:12], "smiling": labels, "ages": 20.0 + np.arange(12)}
    if page == "docs/training.md":
        return {"dataset": list(sketch_faces(24, 32, seed=1).images)}
    if page == "docs/evaluation.md":
        images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        model = diffae.DiffusionAutoencoder.from_pretrained("runs/photos")
        given = {"real": images[:8], "made": images[8:], "a": images[:8], "b": images[8:], "model": model}
        return given | {"code": model.encode(images, diffae.Sampling(2)), "g": torch.Generator().manual_seed(0)}
    return {}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_runs(block: Block, inside: Path) -> None:
    """Pages are independent, and so are their blocks."""
    text = block.code
    for shown, cheap in CHEAPER.items():
        text = text.replace(shown, cheap)
    code = compile("\n" * (block.line - 1) + text, block.page, "exec")
    exec(code, {"__name__": "__main__", **assumed(block.page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_command_works(command: str, inside: Path) -> None:
    words = shlex.split(re.sub(r" \[(--[^]]+)\]", r" \1", command))  # brackets mark options
    if words[0] == "diffae":
        run_or_parse(words[1:])
    elif words[:2] == ["python", "-c"]:
        exec(re.sub(r"\b\d{4,}\b", "4", words[2]).replace("'PHOTOS'", "'drawn'"), {})
    elif words[0] == "python":
        check_script(words[1], words[2:])
    elif words[:2] == ["pip", "install"]:
        check_extras(words[2])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    else:
        pytest.fail(f"{COMMANDS[command]}: mark the block as not run, or teach this test to check {command!r}")


def run_or_parse(words: list[str]) -> None:
    """Run a command of `SMALLER` on the workspace's run; else let the command line parse it."""
    assert current(words) == words  # no deprecated name
    name = " ".join(words[: 2 if words[0] in ("attributes", "data") else 1])
    if name in SMALLER and "runs/photos" in words:
        assert diffae.cli.main([*words, *SMALLER[name].split()]) == 0
    else:
        diffae.cli._parse(words)


def check_script(script: str, words: list[str]) -> None:
    """The script exists, and defines the options."""
    source = (ROOT / script).read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word.partition("=")[0]}"' in source


def check_extras(requirement: str) -> None:
    """`diffae[...]` names extras that exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = re.fullmatch(r"diffae\[(.+)\]", requirement)
    assert found
    assert set(found[1].split(",")) <= set(project["optional-dependencies"])


def test_what_is_not_run_says_why() -> None:
    skipped = [block for block in BLOCKS if block.not_run]
    assert {block.not_run for block in skipped} <= NOT_RUN
    assert len(skipped) <= 16


def test_no_other_languages() -> None:
    """A new kind of block needs a check here."""
    assert {block.language for block in BLOCKS} <= {"python", "sh", "text", "bibtex", "yaml"}


def test_blocks_are_found() -> None:
    """That the tests above pass because the blocks are right, not because none is found."""
    assert len(PYTHON) >= 5
    assert len(COMMANDS) >= 40
    assert {"README.md", "docs/data.md", "docs/inversion.md"} <= {block.page for block in BLOCKS}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
