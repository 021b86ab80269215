"""The background, and the neck and shirt."""

from __future__ import annotations

import numpy as np

from sketchfaces.canvas import Array, ellipse, mix, oklch, rgb, rounded_box, segment, smoothstep, turned
from sketchfaces.scene import Scene

WHITE = rgb("fffdf8")


def draw_background(scene: Scene) -> None:
    """A lit wall in the background hue, with one of six random patterns, which have no label."""
    face, rng = scene.face, scene.detail("background")
    v = scene.canvas.view()
    glow = np.exp(-((v.x - 0.5 * face.light_direction) ** 2 + (v.y + 0.3) ** 2) * 0.9)
    hue = face.background_hue
    dim, bright = oklch(0.72, 0.10, hue)[:, None, None], oklch(0.91, 0.06, hue)[:, None, None]
    v.rgb[...] = dim + glow * (bright - dim)
    pattern = (_dots, _blobs, _leaves, _scribbles, _stripes, _stars)[int(rng.integers(6))]
    pattern(scene, rng, oklch(0.93, 0.05, hue + 12), oklch(0.66, 0.11, hue - 12))


def _dots(scene: Scene, rng: np.random.Generator, light: Array, dark: Array) -> None:
    """Polka dots on a rotated grid."""
    v = scene.canvas.view()
    pitch, angle = rng.uniform(0.22, 0.34), rng.uniform(0, 1.5)
    x, y = turned(v.x + rng.uniform(), v.y + rng.uniform(), angle)
    x, y = (x / pitch) % 1 - 0.5, (y / pitch) % 1 - 0.5
    distance = (np.sqrt(x * x + y * y) - rng.uniform(0.16, 0.3)) * pitch
    v.fill(distance, light if rng.random() < 0.6 else dark, 0.55)


def _blobs(scene: Scene, rng: np.random.Generator, light: Array, dark: Array) -> None:
    """Two tints of large soft shapes."""
    v = scene.canvas.view()
    noise = scene.grain(v, "blobs", 5)
    v.fill((0.35 - noise) * 0.2, light, 0.5)
    v.fill((0.55 + noise) * 0.2, dark, 0.35)


def _leaves(scene: Scene, rng: np.random.Generator, light: Array, dark: Array) -> None:
    """Scattered leaves with a vein."""
    for _ in range(12):
        x, y, size, angle = *_edge_place(rng), rng.uniform(0.13, 0.24), rng.uniform(0, 6.3)
        v = scene.canvas.around(x, y, size)
        a, b = turned(v.x - x, v.y - y, angle)
        bend = size * 0.75
        leaf = np.maximum(np.hypot(a, b - bend), np.hypot(a, b + bend)) - np.hypot(size, bend) * 0.99
        v.fill(leaf, light if rng.random() < 0.5 else dark, 0.6)
        v.stroke(segment(a, b, (-size * 0.7, 0), (size * 0.7, 0)), 0.006, dark, 0.6)


def _scribbles(scene: Scene, rng: np.random.Generator, light: Array, dark: Array) -> None:
    """Short wavy pen strokes."""
    for _ in range(9):
        x, y, size, angle = *_edge_place(rng), rng.uniform(0.1, 0.22), rng.uniform(0, 6.3)
        v = scene.canvas.around(x, y, size + 0.06)
        a, b = turned(v.x - x, v.y - y, angle)
        wave = b - 0.045 * np.sin(a * rng.uniform(25, 45))
        v.fill(np.maximum(np.abs(wave) * 0.7 - 0.016, np.abs(a) - size), light if rng.random() < 0.6 else dark, 0.7)


def _stripes(scene: Scene, rng: np.random.Generator, light: Array, dark: Array) -> None:
    """Wavering stripes."""
    v = scene.canvas.view()
    pitch, angle = rng.uniform(0.2, 0.4), rng.uniform(-0.9, 0.9)
    x, y = turned(v.x, v.y, angle)
    x = x + 0.03 * np.sin(y * rng.uniform(3, 9))
    v.fill((np.abs((x / pitch + rng.random()) % 1 - 0.5) - rng.uniform(0.12, 0.25)) * pitch, light, 0.5)


def _stars(scene: Scene, rng: np.random.Generator, light: Array, dark: Array) -> None:
    """Scattered five-petalled stars."""
    for _ in range(14):
        x, y, size = *_edge_place(rng), rng.uniform(0.05, 0.11)
        v = scene.canvas.around(x, y, size * 1.4)
        a, b = turned(v.x - x, v.y - y, rng.uniform(0, 1.5))
        angle = np.arctan2(b, a)
        v.fill(np.hypot(a, b) - size * (0.75 + 0.25 * np.cos(5 * angle)), light if rng.random() < 0.7 else dark, 0.7)


def _edge_place(rng: np.random.Generator) -> tuple[float, float]:
    """A point at the sides, where the head does not hide everything."""
    return float(rng.uniform(0.42, 0.92) * rng.choice([-1, 1])), float(rng.uniform(-1, 1))


def draw_body(scene: Scene) -> None:
    """Neck and shoulders, in a shirt with a collar, a crew neck or stripes."""
    look, x = scene.look, 0.04 * scene.turn
    v = scene.canvas.view(-1, 0.3, 1, 1)
    neck_width = 0.215 - 0.05 * scene.child
    neck = rounded_box(v.x - x, v.y - 0.66, neck_width, 0.36, 0.1)
    lift = -0.75 * smoothstep(v.y, scene.chin + 0.20, scene.chin - 0.02) - 0.1
    v.fill(neck, scene.skin_colour(v, lift))
    body = ellipse(v.x, v.y - 1.30, scene.shoulders, 0.56)
    neckline = ellipse(v.x - x, v.y - 0.72, neck_width + 0.05, 0.13)
    shirt = np.maximum(body, -neckline)
    base, trim = look.shirt_colour, look.trim_colour
    cloth = scene.shaded(v, base, base * 0.68, mix(base, WHITE, 0.25), 0.25 + 0.08 * scene.grain(v, "cloth", 14))
    v.fill(shirt, cloth)
    if look.shirt < 0.35:
        stripes = (np.abs(((v.y + 0.25 * v.x * v.x) / 0.13) % 1 - 0.5) - 0.22) * 0.13
        v.fill(np.maximum(shirt, stripes), trim, 0.85)
    elif look.shirt < 0.65:
        for side in (-1, 1):
            a, b = turned(v.x - x - side * (neck_width - 0.02), v.y - 0.84, side * 0.75)
            v.fill(np.maximum(rounded_box(a, b, 0.075, 0.13, 0.02), shirt - 0.05), mix(base, WHITE, 0.55))
    else:
        v.stroke(np.maximum(neckline - 0.02, body), 0.02, trim, 0.9)
