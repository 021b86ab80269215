"""Makes tests/fixtures/parity.npz and parity.json, a small part of the full parity data.

    python tests/parity/make_fixture.py FOLDER

FOLDER holds NAME.json and NAME.npz for each case (tests/fixtures/README.md describes them).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parents[1] / "fixtures"
CASES = ("tiny", "tiny2", "ddim_tiny", "latent_tiny")
STRIDE = 2
"""Every second row and column of images is kept, and of networks' outputs only those of 10 steps."""
LEVELS = 10
"""Every tenth level of a schedule is kept, the last included."""


def kept(case: str, about: dict, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The part of a case's arrays that goes into the fixture; `about` gets its stride."""
    found = {}
    if "stride" in about:
        about["stride"] *= STRIDE
    for key, values in arrays.items():
        if not key.endswith("_T20"):
            found[f"{case}/{key}"] = values[..., ::STRIDE, ::STRIDE] if values.ndim == 4 else values
    return found


def schedules(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The schedules, at some levels, and the timesteps."""
    found = {}
    for key, values in arrays.items():
        steps = key.startswith("ddim_timesteps_")
        found[f"schedules/{key}"] = values.astype(np.int16) if steps else values[LEVELS - 1 :: LEVELS]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the parity fixture.")
    parser.add_argument("folder", type=Path, help="the full parity data")
    folder = parser.parse_args().folder
    about, numbers = {}, schedules(dict(np.load(folder / "schedules.npz")))
    for case in CASES:
        about[case] = json.loads((folder / f"{case}.json").read_text())
        numbers |= kept(case, about[case], dict(np.load(folder / f"{case}.npz")))
    FIXTURES.mkdir(exist_ok=True)
    np.savez_compressed(FIXTURES / "parity.npz", **numbers)  # pyright: ignore[reportArgumentType]
    (FIXTURES / "parity.json").write_text(json.dumps(about, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
