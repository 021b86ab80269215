"""Draw cells as a microscope with a 16-bit camera would see them, in two channels, with exact labels.

    python docs/examples/cells.py cells --count 2000

writes cells/00000.tif and so on, TIFF files of 2 x 32 x 32 uint16 (channel 1: the stained nucleus, channel 2: a marker
in the cell's body), and cells/labels.csv with the columns file, nuclear_area (square micrometres), marker (photons per
pixel in the cell's body) and granules (their number). All randomness comes from --seed.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import tifffile

SIZE = 32  # pixels
PIXEL = 0.65  # micrometres
FINE = 4  # oversampling
OFFSET, GAIN, READ_NOISE = 100, 4.0, 3.0  # of the camera: counts, counts per photon, photons


def outline(rng: np.random.Generator, radius: float, stretch: float, wobble: float) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance in pixels (negative inside) to a closed curve around the image's centre, and the angle."""
    axis = (np.arange(SIZE * FINE) + 0.5) / FINE - SIZE / 2
    x, y = np.meshgrid(axis, axis)
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle = np.arctan2(v * stretch, u / stretch)
    waves = sum(rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) / k for k in (2, 3, 4, 5))
    return np.hypot(u / stretch, v * stretch) - radius * (1 + wobble * waves), angle


def inside(distance: np.ndarray, blur: float = 0.6) -> np.ndarray:
    """1 inside an outline, 0 outside, with the microscope's blur (pixels) at the edge."""
    return 1 / (1 + np.exp(distance / blur))


def spots(rng: np.random.Generator, count: int, where: np.ndarray, width: float) -> np.ndarray:
    """Round spots of height 1 at random places inside."""
    light = np.zeros_like(where)
    rows, columns = np.nonzero(where > 0.8)
    grid = np.arange(SIZE * FINE)
    for pick in rng.integers(0, len(rows), count):
        dy, dx = (grid - rows[pick])[:, None] / FINE, (grid - columns[pick])[None] / FINE
        light += np.exp(-(dx**2 + dy**2) / (2 * width**2))
    return light


def draw_cell(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """One cell: (2, SIZE, SIZE) uint16, and its quantities."""
    radius = rng.uniform(3.2, 7.0)  # pixels
    nucleus = inside(outline(rng, radius, rng.uniform(1, 1.25), 0.04)[0])
    body = inside(outline(rng, radius + rng.uniform(3, 6.5), rng.uniform(1, 1.3), 0.08)[0], 0.9)
    body = np.maximum(body, nucleus)
    marker, granules = rng.uniform(15, 120), int(rng.integers(0, 13))
    chromatin = 0.75 + 0.5 * spots(rng, 6, nucleus, 0.9)
    photons = np.stack([
        4 + 110 * nucleus * chromatin,
        6 + marker * body * (1 - 0.7 * nucleus) + 90 * spots(rng, granules, body * (1 - nucleus), 0.7),
    ])  # fmt: skip
    photons = photons.reshape(2, SIZE, FINE, SIZE, FINE).mean(axis=(2, 4))
    counts = OFFSET + GAIN * (rng.poisson(photons) + rng.normal(0, READ_NOISE, photons.shape))
    area = (nucleus > 0.5).sum() * (PIXEL / FINE) ** 2
    truth = {"nuclear_area": round(float(area), 2), "marker": round(marker, 2), "granules": granules}
    return np.rint(counts).clip(0, 65535).astype(np.uint16), truth


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw cells with exact labels.")
    parser.add_argument("folder", type=Path, help="output folder, must not exist")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    rows = []
    for number in range(options.count):
        pixels, truth = draw_cell(np.random.default_rng([options.seed, number]))
        name = f"{number:05d}.tif"
        tifffile.imwrite(
            options.folder / name,
            pixels,
            imagej=True,
            resolution=(1 / PIXEL, 1 / PIXEL),
            metadata={"axes": "CYX", "unit": "um", "Info": f"drawn cell {number}, seed {options.seed}"},
        )
        rows.append({"file": name, **truth})
    with (options.folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    print(f"{options.count} cells and labels.csv written to {options.folder}")


if __name__ == "__main__":
    main()
