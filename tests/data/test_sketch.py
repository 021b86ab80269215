"""The old name of the sketch faces still works, with a warning."""

from __future__ import annotations

import importlib

import pytest

import diffae.data
import sketchfaces


def test_the_old_module_warns_and_has_the_same_names() -> None:
    with pytest.warns(DeprecationWarning, match=r"diffae\.data\.sketch is now sketchfaces"):
        old = importlib.reload(importlib.import_module("diffae.data.sketch"))  # it warns when it is executed
    assert all(getattr(old, name) is getattr(sketchfaces, name) for name in sketchfaces.__all__)
    assert diffae.data.sketch_faces is sketchfaces.sketch_faces
