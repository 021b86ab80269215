"""Imports point strictly downwards (DESIGN, "Layers"): read from the source, those inside functions too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "diffae"

LAYERS = [
    ["errors"],
    ["config", "presets", "device", "image_files", "image_fitting", "image_stacks", "image_writing", "images"],
    ["networks", "diffusion"],
    ["data"],
    ["checkpoint", "codes", "pretrained"],
    [
        "autoencoder",
        "official",
        "latents",
        "prior",
        "few_shot",
        "attributes",
        "attribute_labels",
        "linear",
        "directions",
    ],
    ["training"],
    ["evaluation"],
    ["report", "figures"],
    ["suite"],
    ["cli", "studio", "__main__"],
]
"""Bottom first. Within a layer imports are free, but for the pair below."""

APART = {"networks", "diffusion"}
"""Networks know no schedule, solvers know no network."""

LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}


def imported(tree: ast.Module, package: str) -> set[str]:
    """Modules and names of diffae that a source imports anywhere, as dotted names without "diffae.".

    Args:
        tree: the parsed source.
        package: dotted name of the package the source is in, for relative imports.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return {name.partition(".")[2] for name in names if name.partition(".")[0] == "diffae"} - {"__version__"}


def violations(sources: dict[str, str]) -> list[str]:
    """What breaks the rules among modules, given as {path below src/diffae: text}."""
    found = []
    for path, text in sources.items():
        parts = path.removesuffix(".py").split("/")
        if parts == ["__init__"]:
            continue  # the names a user imports, from everywhere
        if parts[0] not in LAYER:
            found.append(f"{path} has no layer")
            continue
        for name in sorted(imported(ast.parse(text), ".".join(["diffae", *parts[:-1]]))):
            target = name.split(".")[0]
            if target not in LAYER:
                found.append(f"{path} imports diffae.{name}, which has no layer")
            elif LAYER[target] > LAYER[parts[0]]:
                found.append(f"{path} imports diffae.{name}, which lies above")
            elif {target, parts[0]} == APART:
                found.append(f"{path} imports diffae.{name}, which lies across")
    return found


def sources() -> dict[str, str]:
    return {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.rglob("*.py")}


def test_imports_point_downwards() -> None:
    assert not violations(sources())


def test_the_imports_are_seen() -> None:
    """That the test above passes because the imports are right, not because none is found."""
    seen = {path: imported(ast.parse(text), "diffae") for path, text in sources().items()}
    assert "networks.autoencoder.AutoencoderNetworks" in seen["autoencoder.py"]
    assert "checkpoint" in seen["autoencoder.py"]  # from diffae import checkpoint
    assert "cli.demo.Demo" in seen["cli/__init__.py"]  # inside a function
    assert sum(map(len, seen.values())) > 100


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("networks/unet.py", "import torch\nimport diffae.model", "lies above"),
        ("networks/unet.py", "from diffae.diffusion.solvers import step", "lies across"),
        ("diffusion/solvers.py", "def f():\n    from diffae.networks import unet", "lies across"),
        ("diffusion/solvers.py", "from ..networks.unet import UNet", "lies across"),
        ("diffusion/solvers.py", "from .. import networks", "lies across"),
        ("data/pack.py", "if True:\n    from diffae import checkpoint", "lies above"),
        ("checkpoint.py", "from diffae import Code", "no layer"),  # the lazy names stand above everything
        ("errors.py", "import diffae.config as c", "lies above"),
        ("brand_new.py", "import os", "no layer"),
        ("report.py", "import diffae.cli.train", "lies above"),
    ],
)
def test_a_bad_import_is_found(path: str, text: str, complaint: str) -> None:
    [found] = violations({path: text})
    assert path in found
    assert complaint in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("checkpoint.py", "from diffae import __version__"),
        ("networks/unet.py", "from .blocks import Stage\nfrom ..config import NetworkConfig"),
        ("cli/train.py", "from diffae.training.trainer import train\nimport diffae.plotting"),
        ("__init__.py", "from diffae.model import Code"),
        ("errors.py", "import diffaeology"),
    ],
)
def test_a_good_import_is_not(path: str, text: str) -> None:
    assert not violations({path: text})
