"""What is fuzzed: for each format a small valid file and the reader of it. Every kind of format has a module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Target(NamedTuple):
    """A reader of one format."""

    write: Callable[[Path], Path]
    """Writes small valid files into a folder; returns the path to read."""
    read: Callable[[Path], object]
    """Reads it in the worker. A `DiffaeError` is a good answer to a damaged file; any other exception is a fault."""


def targets() -> dict[str, Target]:
    """All targets by name."""
    import file_targets
    import image_targets

    return {**image_targets.TARGETS, **file_targets.TARGETS}
