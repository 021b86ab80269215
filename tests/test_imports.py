"""Imports point strictly downwards: read from the source, imports inside functions included."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

ORDER = (
    "errors",
    "devices",
    "distributed",
    "workers",
    "console",
    "interrupts",
    "deprecation",
    "remote",
    "diffusion",
    "networks",
    "config",
    "pretrained",
    "hub",
    "checkpoint",
    "data",
    "latent",
    "compat",
    "plotting",
    "page",
    "model",
    "sklearn",
    "training",
    "presets",
    "api",
    "evaluation",
    "studio",
    "cli",
    "__main__",
)
"""Modules and packages directly below diffae, lowest first. Each may import those before it."""

APART = {("networks", "diffusion")}
"""Networks know no noise schedule; solvers know no network."""

DRAWS_FACES = {"data/sketch.py", "evaluation", "cli"}
"""What may import sketchfaces, a package that knows nothing of diffae."""


def imported(tree: ast.AST, package: str) -> set[str]:
    """Full names of the modules and attributes that a source imports anywhere.

    Args:
        tree: the parsed source.
        package: dotted name of the package that holds the source, for relative imports.
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
    return names


def violations(sources: dict[str, str]) -> list[str]:
    """What breaks the rules among modules, given as {path below src/diffae: text}."""
    found = []
    for path, text in sources.items():
        parts = path.removesuffix(".py").split("/")
        if parts == ["__init__"]:
            continue  # the names a user imports, from everywhere
        if parts[0] not in ORDER:
            found.append(f"{path} has no place in the order")
            continue
        for name in sorted(imported(ast.parse(text), ".".join(["diffae", *parts[:-1]]))):
            root, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if root == "sketchfaces" and not {path, parts[0]} & DRAWS_FACES:
                found.append(f"{path} imports {name}")
            if root != "diffae" or target == parts[0]:
                continue
            if target not in ORDER:
                found.append(f"{path} imports {name}, which has no place in the order")
            elif ORDER.index(target) > ORDER.index(parts[0]):
                found.append(f"{path} imports {name}, which lies above")
            elif (parts[0], target) in APART:
                found.append(f"{path} imports {name}, which must not know it")
    return found


def sources(package: str = "diffae") -> dict[str, str]:
    folder = SOURCE / package
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}


def loaded_modules(texts: dict[str, str]) -> dict[str, set[str]]:
    """For each module of diffae the modules of diffae that are loaded with it: imports at the top level."""
    modules = {"diffae." + path.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for path in texts}
    graph = {}
    for path, text in texts.items():
        dotted = "diffae." + path.removesuffix(".py").replace("/", ".")
        module, package = dotted.removesuffix(".__init__"), dotted.rpartition(".")[0]
        top = ast.Module([node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        names = imported(top, package)
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & modules - {module}
    return graph


def test_imports_point_downwards() -> None:
    assert not violations(sources())


def test_no_module_is_loaded_in_a_circle() -> None:
    graph = loaded_modules(sources())
    assert sum(map(len, graph.values())) > 200  # that imports are found at all
    TopologicalSorter(graph).prepare()


def test_a_circle_is_found() -> None:
    texts = {"data/a.py": "from diffae.data import b", "data/b.py": "import os\nfrom diffae.data.a import x"}
    with pytest.raises(CycleError):
        TopologicalSorter(loaded_modules(texts)).prepare()


def test_sketchfaces_knows_nothing_of_diffae() -> None:
    texts = sources("sketchfaces")
    assert len(texts) > 3
    for path, text in texts.items():
        assert not {name for name in imported(ast.parse(text), "sketchfaces") if name.startswith("diffae")}, path


def test_the_imports_are_seen() -> None:
    """The tests above pass because the imports are right, not because none is found."""
    seen = {path: imported(ast.parse(text), "diffae") for path, text in sources().items()}
    assert "diffae.networks.settings.UNetConfig" in seen["config.py"]
    assert "diffae.checkpoint" in seen["model/stored.py"]  # from diffae import checkpoint
    assert "diffae.networks.unet.UNet" in seen["networks/settings.py"]  # inside a function
    assert sum(map(len, seen.values())) > 300


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("networks/unet.py", "import torch\nimport diffae.model", "lies above"),
        ("networks/unet.py", "from diffae.diffusion.solvers import step", "must not know"),
        ("diffusion/solvers.py", "def f():\n    from diffae.networks import unet", "lies above"),
        ("diffusion/solvers.py", "from ..networks.unet import UNet", "lies above"),
        ("diffusion/solvers.py", "from .. import networks", "lies above"),
        ("data/pack.py", "if True:\n    from diffae import model", "lies above"),
        ("checkpoint.py", "from diffae import Code", "no place"),  # the lazy names stand above everything
        ("errors.py", "import diffae.config as c", "lies above"),
        ("brand_new.py", "import os", "no place"),
        ("plotting.py", "import diffae.cli.train", "lies above"),
        ("training/trainer.py", "from sketchfaces import sketch_faces", "imports sketchfaces"),
    ],
)
def test_a_bad_import_is_found(path: str, text: str, complaint: str) -> None:
    [found] = violations({path: text})
    assert path in found
    assert complaint in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("checkpoint.py", "from diffae.deprecation import __version__"),
        ("networks/unet.py", "from .layers import Stage\nfrom ..errors import require"),
        ("cli/train.py", "from diffae.training.trainer import train\nimport diffae.plotting"),
        ("cli/demo.py", "import sketchfaces"),
        ("__init__.py", "from diffae.model import Code"),
        ("errors.py", "import diffaeology"),
    ],
)
def test_a_good_import_is_not(path: str, text: str) -> None:
    assert not violations({path: text})
