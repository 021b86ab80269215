"""Where decoded images are kept by default."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Default folder for packs: `diffae/packs` in $XDG_CACHE_HOME or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "diffae" / "packs"
