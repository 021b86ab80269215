"""Shared by all tests: shape annotations are checked, and outside data come by way of DIFFAE_SHARED."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# conventions 1: every annotated shape in these modules is checked while the tests run
install_import_hook(["diffae.networks", "diffae.diffusion", "diffae.data.images", "diffae.model"], "beartype.beartype")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with parity data, named by the environment variable DIFFAE_SHARED."""
    folder = os.environ.get("DIFFAE_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set DIFFAE_SHARED to the folder that holds parity/ to run this test")
    return Path(folder)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked, as outside the tests: for a user's bad input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
