"""Shared by all tests: shape annotations are checked, and outside data come by way of DIFFAE_SHARED."""

from __future__ import annotations

import os
import pkgutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _checked() -> list[str]:
    """Modules whose annotated shapes are checked while the tests run (conventions 1).

    Not settings: they have no shapes, and their own checks are what a user's mistake meets.
    """
    names = ["diffae.data.images"]
    for package in ("diffae.networks", "diffae.diffusion", "diffae.model"):
        spec = find_spec(package)
        assert spec is not None
        modules = pkgutil.iter_modules(spec.submodule_search_locations)
        names += [f"{package}.{module.name}" for module in modules if module.name != "settings"]
    return names


install_import_hook(_checked(), "beartype.beartype")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with parity data, named by the environment variable DIFFAE_SHARED."""
    folder = os.environ.get("DIFFAE_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set DIFFAE_SHARED to the folder that holds parity/ to run this test")
    return Path(folder)
