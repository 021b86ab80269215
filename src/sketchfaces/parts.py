"""The parts of the face: head, ears, eyes, nose, mouth, glasses, earrings."""

from __future__ import annotations

import numpy as np

from sketchfaces.canvas import Array, View, arc, coverage, ellipse, mix, rgb, rounded_box, segment, smoothstep, turned
from sketchfaces.scene import Scene

WHITE, INK = rgb("fffdf8"), rgb("1d1620")


def draw_ear(scene: Scene, side: int) -> None:
    """One ear (`side` -1: left of the picture); it moves to the front as the head turns away from it."""
    x, y, seen = ear_place(scene, side)
    v = scene.canvas.around(x, y, 0.14, 0.18)
    a, b = turned(v.x - x, v.y - y, -0.16 * side)
    rx = 0.075 + 0.03 * seen
    v.fill(ellipse(a, b, rx, 0.12 + 0.02 * scene.old), scene.skin_colour(v, -0.15))
    v.fill(ellipse(a - side * 0.012, b, rx * 0.55, 0.075), scene.skin_shadow, 0.6, blur=0.03)


def ear_place(scene: Scene, side: int) -> tuple[float, float, float]:
    """Centre of an ear, and how far it is turned towards the viewer: -1..1."""
    seen = -side * scene.turn
    out = 1.03 - 0.30 * max(seen, 0) - 0.12 * max(-seen, 0)
    return scene.x + side * scene.half_width * out, scene.eye_y + 0.08, seen


def draw_head(scene: Scene) -> None:
    """The ears, and the skin of the face with light, texture, blush, freckles and wrinkles."""
    for side in (-1, 1):
        draw_ear(scene, side)
    v = scene.canvas.view(-0.65, -0.7, 0.65, 0.72)
    head = scene.head(v)
    rim = -0.30 * smoothstep(head, -0.10, 0.0)
    texture = 0.05 * scene.grain(v, "pores", 40) + 0.05 * scene.grain(v, "blotches", 12)
    v.fill(head, scene.skin_colour(v, rim + texture))
    _blush(scene)
    _freckles(scene)
    if scene.old > 0.02:
        _wrinkles(scene)


def _blush(scene: Scene) -> None:
    """Rosy cheeks."""
    face = scene.face
    colour = mix(rgb("ff5d5d"), rgb("b0352f"), face.skin_tone)
    strength = 0.20 + 0.18 * scene.look.blush + 0.16 * scene.child + 0.10 * face.smiling - 0.08 * scene.old
    for side in (-1, 1):
        x, squeeze = scene.project(side * 0.60, 1.0)
        y = scene.eye_y + 0.20 - 0.015 * face.smiling
        v = scene.canvas.around(x, y, 0.2, 0.16)
        d = np.sqrt(((v.x - x) / (0.15 * squeeze)) ** 2 + ((v.y - y) / 0.11) ** 2)
        v.blend(strength * smoothstep(d, 1.15, 0.2) * coverage(scene.head(v), v.px), colour)


def _freckles(scene: Scene) -> None:
    """Freckles on some faces, and sometimes a mole."""
    rng = scene.detail("freckles")
    for _ in range(int(26 * max(rng.random() - 0.45, 0) / 0.55)):
        u, y = rng.uniform(-0.68, 0.68), scene.eye_y + rng.uniform(0.09, 0.28)
        x, squeeze = scene.project(float(u), 1.0)
        size = rng.uniform(0.007, 0.013)
        v = scene.canvas.around(x, y, 0.02)
        v.fill(ellipse(v.x - x, v.y - y, size * squeeze + 0.002, size), scene.skin_shadow * 0.8, 0.7)
    if rng.random() < 0.15:
        x, _ = scene.project(float(rng.uniform(-0.45, 0.45)))
        y = scene.mouth_y + rng.uniform(-0.1, 0.10)
        v = scene.canvas.around(x, y, 0.03)
        v.fill(np.maximum(np.hypot(v.x - x, v.y - y) - 0.014, scene.head(v)), scene.line, 0.9)


def _wrinkles(scene: Scene) -> None:
    """Lines of age: across the forehead, beside the eyes, under them, and from the nose to the mouth."""
    rng, old = scene.detail("wrinkles"), scene.old
    colour = mix(scene.skin_shadow, scene.line, 0.45)

    def line(u: float, y: float, half: float, rise: float, slope: float = 0.0, strength: float = 1.0) -> None:
        x, squeeze = scene.project(u)
        v = scene.canvas.around(x, y, half + 0.03, half + abs(rise) + 0.03)
        v.stroke(arc(v.x - x, v.y - y, half * squeeze, rise, slope), 0.007 + 0.004 * old, colour, old * strength)

    for k in range(3):
        line(float(rng.uniform(-0.05, 0.05)), scene.eye_y - 0.25 - 0.065 * k, 0.19 - 0.03 * k, 0.015, strength=0.75)
    for side in (-1, 1):
        for slope in (-0.55, 0.0, 0.5):
            line(side * 0.80, scene.eye_y + 0.02 + 0.06 * slope, 0.035, 0.0, side * slope)
        line(side * 0.43, scene.eye_y + 0.125, 0.085, -0.022)
        line(side * 0.42, scene.mouth_y - 0.06, 0.035, 0.0, side * 2.2, 0.9)


def draw_eyes(scene: Scene) -> None:
    """Eyes with iris, pupil, two highlights, lids and lashes; brows in the colour of the hair."""
    for side in (-1, 1):
        _eye(scene, side)
        _brow(scene, side)


def _eye(scene: Scene, side: int) -> None:
    """One eye; `side` is -1 at the left of the picture."""
    look, child = scene.look, scene.child
    x, squeeze = scene.project(side * (0.42 + 0.02 * child))
    y = scene.eye_y
    rx = (0.098 + 0.018 * look.eye_size + 0.022 * child - 0.008 * scene.old) * (0.35 + 0.65 * squeeze)
    ry = 0.080 + 0.018 * look.eye_size + 0.034 * child - 0.014 * scene.old
    v = scene.canvas.around(x, y, 0.2, 0.2)
    a, b = v.x - x, v.y - y
    v.fill(ellipse(a, b + 0.02, rx * 1.35, ry * 1.45), scene.skin_shadow, 0.24 - 0.16 * child, blur=0.08)
    eye = ellipse(a, b, rx, ry)
    v.fill(eye, mix(WHITE, scene.skin_shadow, 0.06))
    gaze = 0.018 * scene.turn
    iris_r = (0.90 - 0.08 * child) * ry
    iris = np.maximum(ellipse(a - gaze, b - 0.004, iris_r * (0.5 + 0.5 * squeeze), iris_r), eye)
    glow = smoothstep(b, -0.03, 0.06)
    v.fill(iris, (look.eyes * 0.75)[:, None, None] + glow * (look.eyes * 0.45 + 0.1)[:, None, None])
    v.fill(np.maximum(ellipse(a - gaze, b - 0.004, iris_r * 0.50 * squeeze, iris_r * 0.52), eye), INK)
    lid = np.maximum(eye, -ellipse(a, b - 0.030, rx * 1.12, ry * 1.06))
    v.fill(lid, mix(scene.skin_shadow, scene.line, 0.2), 0.55)
    for dx, dy, r in ((-0.022, -0.030, 0.022), (0.024, 0.026, 0.011)):
        v.fill(np.hypot(a - dx - gaze, b - dy) - r, WHITE, 0.95)
    lashes = look.lashes < 0.5
    lash, thick = mix(scene.line, INK, 0.6 * lashes), 0.015 + 0.006 * lashes
    v.fill(np.maximum(np.abs(eye) - thick, b + 0.02), lash)
    if lashes:
        v.stroke(segment(a, b, (side * rx * 0.86, -ry * 0.45), (side * (rx + 0.042), -ry * 0.95)), 0.012, lash)


def _brow(scene: Scene, side: int) -> None:
    """One brow, raised by surprise."""
    look = scene.look
    x, squeeze = scene.project(side * 0.43)
    surprise = 0.03 * (scene.face.open_mouth and not scene.face.smiling)
    y = scene.eye_y - 0.175 - 0.015 * look.eye_size - 0.02 * scene.child - surprise
    thick = (0.016 + 0.014 * look.brow) * (1 - 0.35 * scene.child)
    half = 0.105 * (0.35 + 0.65 * squeeze)
    v = scene.canvas.around(x, y, 0.17, 0.1)
    slope = side * (0.20 - 0.22 * look.brow_tilt)
    taper = 1 + 0.35 * np.clip(-side * (v.x - x) / half, -1, 1)
    distance = arc(v.x - x, v.y - y, half, 0.035, slope) - thick * taper
    v.fill(distance, mix(scene.hair * 0.72, scene.line, 0.25), 0.92)


def draw_nose(scene: Scene) -> None:
    """A soft nose with shadows, a highlight and nostrils, which protrudes as the head turns."""
    look, child = scene.look, scene.child
    size = (0.060 + 0.022 * look.nose + 0.008 * scene.old) * (1 - 0.28 * child)
    x, _ = scene.project(0.0, 1.22)
    y = scene.nose_y
    root, _ = scene.project(0.0, 1.02)
    v = scene.canvas.around(x, y - 0.06, 0.22, 0.24)
    a, b = v.x - x, v.y - y
    away = float(np.sign(scene.turn)) if abs(scene.turn) > 0.12 else -1.0 if scene.face.light_direction > 0 else 1.0
    bridge = segment(v.x, v.y, (root + away * 0.035, scene.eye_y + 0.03), (x + away * size * 0.75, y - 0.02)) - 0.014
    v.fill(bridge, scene.skin_shadow, 0.30 + 0.35 * abs(scene.turn), blur=0.05)
    v.fill(ellipse(a, b - 0.015, size * 1.15, size * 0.8), scene.skin_shadow, 0.55, blur=0.06)
    v.fill(ellipse(a, b + 0.012, size * 0.95, size * 0.80), mix(scene.skin, scene.skin_light, 0.35), 0.75, blur=0.05)
    v.fill(np.hypot(a - 0.02 * scene.face.light_direction, b + 0.022) - 0.014, WHITE, 0.40, blur=0.03)
    v.stroke(arc(a, b - size * 0.72, size * 0.72, -size * 0.45), 0.013, scene.line, 0.75)


def draw_mouth(scene: Scene) -> None:
    """One of four mouths, by the labels: neutral, smiling, laughing with teeth, or round with surprise."""
    look, face = scene.look, scene.face
    x, squeeze = scene.project(0.0, 1.02)
    v = scene.canvas.around(x, scene.mouth_y, 0.30, 0.24)
    a, b = (v.x - x) / (0.5 + 0.5 * squeeze), v.y - scene.mouth_y
    red = mix(rgb("c8323c"), rgb("e8707a"), face.skin_tone)
    lip = mix(scene.skin, red, 0.45 + 0.40 * look.lips * (look.lashes < 0.5))
    if face.open_mouth and face.smiling:
        _laugh(v, a, b, 0.185 + 0.025 * look.mouth, lip)
    elif face.open_mouth:
        v.fill(ellipse(a, b - 0.02, 0.088, 0.105), lip)
        v.fill(ellipse(a, b - 0.02, 0.062, 0.078), rgb("4c1220"))
        v.fill(np.maximum(ellipse(a, b - 0.085, 0.06, 0.045), ellipse(a, b - 0.02, 0.06, 0.076)), rgb("d8606a"))
    elif face.smiling:
        _smile(scene, v, a, b, 0.175 + 0.03 * look.mouth, lip)
    else:
        half, rise = 0.105 + 0.03 * look.mouth, -0.004 - 0.026 * look.mouth
        v.fill(ellipse(a, b - 0.022, half * 0.62, 0.030), lip, 0.8, blur=0.015)
        v.fill(ellipse(a, b + 0.012, half * 0.75, 0.022), lip, 0.65, blur=0.015)
        v.stroke(arc(a, b, half, rise), 0.013, mix(scene.line, rgb("701820"), 0.4))


def _smile(scene: Scene, v: View, a: Array, b: Array, half: float, lip: Array) -> None:
    """A smile with the mouth nearly shut: a crescent of teeth, a full lower lip, and a dimple at each end."""
    line = mix(scene.line, rgb("701820"), 0.4)
    u = np.clip(a / half, -1, 1)
    top, bottom = -0.075 + 0.085 * (1 - u * u), -0.075 + 0.135 * (1 - u * u)
    teeth = np.maximum(np.maximum(top - b, b - bottom) * 0.8, np.abs(a) - half)
    v.fill(arc(a, b - 0.080, half * 0.62, -0.05) - 0.030, lip, 0.85, blur=0.015)
    v.fill(teeth - 0.015, line)
    v.fill(teeth, WHITE)
    for side in (-1, 1):
        v.stroke(segment(a, b, (side * (half - 0.01), -0.095), (side * (half + 0.028), -0.060)), 0.010, line, 0.8)


def _laugh(v: View, a: Array, b: Array, half: float, lip: Array) -> None:
    """An open smile: teeth above, tongue below."""
    u = np.clip(a / half, -1, 1)
    top = -0.055 + 0.035 * (1 - u * u)
    bottom = -0.055 + 0.185 * (1 - u * u) ** 0.75
    mouth = np.maximum(np.maximum(top - b, (b - bottom) * 0.75), np.abs(a) - half)
    v.fill(mouth - 0.022, lip)
    v.fill(mouth, rgb("5a1422"))
    v.fill(np.maximum(mouth, ellipse(a, b - 0.13, half * 0.55, 0.06)), rgb("e0666e"))
    v.fill(np.maximum(mouth, b - top - 0.058), WHITE)


def draw_glasses(scene: Scene) -> None:
    """Round, square or half-moon frames with faintly tinted lenses, a bridge and temples to the ears."""
    look, y = scene.look, scene.eye_y + 0.012
    v = scene.canvas.view(-0.7, y - 0.3, 0.7, y + 0.3)
    places = {side: scene.project(side * 0.44, 1.03) for side in (-1, 1)}
    r = 0.178 + 0.01 * scene.child
    for side, (x, squeeze) in places.items():
        a, b = (v.x - x) / (0.3 + 0.7 * squeeze), v.y - y
        if look.glasses < 0.5:
            lens = np.hypot(a, b) - r
        elif look.glasses < 0.8:
            lens = rounded_box(a, b, r, r * 0.80, 0.07)
        else:
            lens = rounded_box(a, b + 0.06 * side * a, r * 1.04, r * 0.86, 0.13)
        v.fill(lens, WHITE, 0.12 + 0.12 * scene.face.skin_tone)
        v.fill(np.maximum(lens + 0.03, np.abs(a + b * 0.8 + 0.06) - 0.028), WHITE, 0.30)
        v.stroke(lens, 0.025, look.frame)
        ear_x, ear_y, _ = ear_place(scene, side)
        edge = x + side * r * (0.3 + 0.7 * squeeze)
        if (ear_x - edge) * side > 0.0:
            v.stroke(segment(v.x, v.y, (edge, y - 0.03), (ear_x, ear_y - 0.08)), 0.016, look.frame)
    inner = [places[s][0] - s * r * (0.3 + 0.7 * places[s][1]) for s in (-1, 1)]
    middle, half = (inner[0] + inner[1]) / 2, abs(inner[1] - inner[0]) / 2
    v.stroke(arc(v.x - middle, v.y - y + 0.03, half + 0.01, 0.02), 0.018, look.frame)


def draw_earrings(scene: Scene) -> None:
    """Studs, drops or hoops below both ears; the far one is hidden as the head turns."""
    look = scene.look
    gold = rgb("f2c14e") if look.earring < 0.6 else look.trim_colour
    for side in (-1, 1):
        x, y, seen = ear_place(scene, side)
        if seen < -0.3:
            continue
        x, y = x + side * 0.01, y + 0.135
        v = scene.canvas.around(x, y + 0.06, 0.12, 0.16)
        if look.earring % 0.3 < 0.12:
            v.stroke(np.hypot(v.x - x, v.y - y - 0.06) - 0.062, 0.017, gold)
        elif look.earring % 0.3 < 0.22:
            v.stroke(segment(v.x, v.y, (x, y - 0.02), (x, y + 0.05)), 0.01, gold * 0.8)
            v.fill(ellipse(v.x - x, v.y - y - 0.085, 0.036, 0.05), gold)
        else:
            v.fill(np.hypot(v.x - x, v.y - y - 0.01) - 0.045, gold)
        v.fill(np.hypot(v.x - x + 0.012, v.y - y) - 0.012, WHITE, 0.8)
