"""Hair, beards and hats."""

from __future__ import annotations

import numpy as np

from sketchfaces.canvas import Array, View, coverage, ellipse, mix, rgb, rounded_box, smooth_union, smoothstep, turned
from sketchfaces.scene import Scene

SHORT = ("crop", "swept", "fringe", "curls", "afro", "quiff")
LONG = ("straight", "waves", "ringlets", "tails")
CURL = {"curls": 0.0, "afro": 0.0, "ringlets": 1.0, "waves": 0.8, "straight": 0.08, "tails": 0.2}


def hair_kind(scene: Scene) -> str:
    """The hair style, from label and look; some short hair recedes with age."""
    look, kinds = scene.look, LONG if scene.face.long_hair else SHORT
    if not scene.face.long_hair and scene.face.age > 44 + 45 * look.volume:
        return "receding"
    return kinds[int(look.hair_style * len(kinds))]


def draw_back_hair(scene: Scene) -> None:
    """The hair behind head and shoulders, in shadow."""
    kind, v = hair_kind(scene), scene.canvas.view()
    if kind == "receding":
        return
    shaded = _colour(scene, v, kind, "back hair", -0.55) if scene.face.long_hair else None
    v.fill(_outline(scene, v, kind), mix(scene.hair, scene.hair_shadow, 0.6) if shaded is None else shaded)


def draw_front_hair(scene: Scene) -> None:
    """The hair in front of the head: the outline minus the opening for the face, with a shadow on the forehead."""
    kind, v = hair_kind(scene), scene.canvas.view()
    opening = _opening(scene, v, kind)
    front = np.maximum(_outline(scene, v, kind), -opening)
    if kind != "receding":
        inside = coverage(scene.head(v), v.px) * smoothstep(opening, -0.085, 0.0)
        v.blend(0.50 * inside, scene.skin_shadow)
    edge = -0.55 * smoothstep(opening, 0.06, 0.0)
    v.fill(front, _colour(scene, v, kind, "front hair", edge))
    _flyaways(scene, kind)


def _colour(scene: Scene, v: View, kind: str, part: str, lift: Array | float) -> Array:
    """Hair (3, h, w) of a kind: strands, and light and dark patches where it curls."""
    colour = scene.hair_colour(v, part, CURL.get(kind, 0.15), lift)
    cells = {"curls": 26, "afro": 40, "ringlets": 20}.get(kind)
    if cells is None:
        return colour
    curls = np.clip(scene.grain(v, "curls", cells), -1.5, 1.5)
    return colour + curls * 0.16 * (scene.hair_light - scene.hair_shadow)[:, None, None]


def _bumps(scene: Scene, x: Array, y: Array, count: int, height: float) -> Array:
    """A scalloped edge around the origin, for locks and curls."""
    rng = scene.detail("scallops")
    angle = np.arctan2(x, y) + 0.06 * np.sin(np.arctan2(x, y) * 3 + rng.uniform(0, 6))
    return height * np.abs(np.cos(angle * count / 2 + rng.uniform(0, 6)))


def _outline(scene: Scene, v: View, kind: str) -> Array:
    """Distance to the silhouette of all the hair."""
    look, volume = scene.look, 0.0 if scene.face.hat else scene.look.volume
    x, y = v.x - scene.x + 0.07 * scene.turn, v.y + 0.13 - 0.05 * scene.child
    rx, ry = scene.half_width + 0.055 + 0.03 * volume, 0.50 + 0.06 * volume
    behind = smoothstep(-x * scene.face.head_turn, 0.25, 0.55)
    low = scene.eye_y + 0.08 + 0.05 * np.abs(x) + 0.26 * behind
    if kind == "afro":
        r = 0.66 + 0.05 * volume
        d = ellipse(x, y + 0.02, r, r * 0.98) - _bumps(scene, x, y, 26, 0.035)
    elif kind == "curls":
        d = ellipse(x, y + 0.02, rx + 0.04, ry + 0.03) - _bumps(scene, x, y, 17, 0.05)
        d = np.maximum(d, v.y - low - 0.02)
    elif kind == "quiff":
        top = ellipse(x - 0.10 * np.sign(look.parting), y + 0.36, 0.34, 0.26 + 0.06 * volume)
        d = np.maximum(smooth_union(ellipse(x, y, rx, ry), top, 0.12), v.y - low)
    elif kind == "receding":
        d = _tufts(scene, v)
    elif kind in ("crop", "swept", "fringe"):
        grow = {"crop": 0.0, "swept": 0.025, "fringe": 0.03}[kind]
        d = np.maximum(ellipse(x, y, rx + grow, ry + grow), v.y - low - (0.10 if kind == "fringe" else 0.0))
    else:
        d = _long_outline(scene, v, kind, ellipse(x, y, rx, ry), volume)
    under = scene.hat_y + 0.9 * np.maximum(np.abs(x) - scene.half_width + 0.01, 0)
    return np.maximum(d, under - v.y) if scene.face.hat else d


def _long_outline(scene: Scene, v: View, kind: str, crown: Array, volume: float) -> Array:
    """Distance to long hair: down to the shoulders, or in two tails."""
    x = v.x - scene.x + 0.07 * scene.turn
    half = scene.half_width + 0.07 + 0.05 * volume
    end = 0.80 + 0.14 * (scene.look.fringe - 0.5)
    if kind == "tails":
        tails = ellipse(np.abs(x) - half - 0.03 - 0.10 * (v.y - 0.2), v.y - 0.40, 0.135, 0.42)
        return smooth_union(np.maximum(crown, v.y - scene.eye_y - 0.16), tails, 0.06)
    if kind == "waves":
        x = x + 0.028 * np.sin(v.y * 17 + 6 * scene.look.wave) * smoothstep(v.y, -0.2, 0.3)
    flare = 0.06 * smoothstep(v.y, 0.0, 0.7) + (0.07 if kind == "ringlets" else 0.0)
    drape = rounded_box(x, v.y - (end - 0.1) / 2, half + flare, (end + 0.1) / 2, 0.16)
    d = smooth_union(crown, drape, 0.12)
    return d - _bumps(scene, x, v.y - 0.1, 30, 0.045) if kind == "ringlets" else d


def _tufts(scene: Scene, v: View) -> Array:
    """Receding hair: tufts above and behind the ears."""
    distance = np.full((v.y.shape[0], v.x.shape[1]), 9.0, np.float32)
    for side in (-1, 1):
        seen = max(-side * scene.turn, 0.0)
        x = v.x - scene.x - side * (scene.half_width - 0.16 * seen)
        tuft = ellipse(x, v.y - scene.eye_y + 0.03, 0.085 + 0.26 * seen, 0.20 + 0.05 * (1 - scene.old))
        distance = np.minimum(distance, tuft - _bumps(scene, x, v.y - scene.eye_y, 9, 0.02))
    return distance


def _opening(scene: Scene, v: View, kind: str) -> Array:
    """Distance to the opening of the hair in front of the face; its upper edge is the hairline."""
    look = scene.look
    centre, _ = scene.project(0.0, 0.72)
    x = v.x - centre
    narrow = 0.855 if scene.face.long_hair and kind != "tails" else 0.94
    rx, cy = scene.half_width * narrow, scene.eye_y + 0.10
    side, up = x / rx, np.minimum(v.y - cy, 0) / 0.56
    window = (np.sqrt(side * side + up * up) - 1) * rx
    swing = x * (1.0 if look.parting > 0 else -1.0) / scene.half_width
    high = scene.eye_y - 0.36 - 0.07 * scene.old
    if kind == "receding":  # the tufts keep clear of the face
        return ellipse(x, v.y - scene.eye_y, rx * 0.96, 0.9)
    if kind == "fringe":
        line = high + 0.20 - 0.04 * np.abs(swing)
    elif kind == "swept" or (kind in ("straight", "waves") and look.fringe < 0.5):
        line = high - 0.06 + 0.30 * smoothstep(swing, -0.55, 0.75)
    elif kind in ("straight", "waves", "ringlets", "tails"):
        line = high - 0.10 + 0.26 * np.abs(swing + 0.25) ** 0.8
    elif kind == "quiff":
        line = high - 0.02 + 0.05 * swing * swing
    else:
        line = high + 0.04 + 0.05 * swing
    rng = scene.detail("hairline")
    jag = np.interp((x / 0.07).ravel(), np.arange(-20, 20), rng.standard_normal(40)).astype(np.float32)[None, :]
    return np.maximum(window, (line + 0.018 * jag - v.y) * 0.9)


def _flyaways(scene: Scene, kind: str) -> None:
    """A few loose hairs across the outline."""
    if scene.face.hat or kind == "receding":
        return
    rng, v = scene.detail("flyaways"), scene.canvas.view(-0.8, -0.95, 0.8, 0.1)
    outline = _outline(scene, v, kind)
    x, y = v.x - scene.x, v.y + 0.10
    angle, near = np.arctan2(x, -y), smoothstep(np.abs(outline), 0.075, 0.02)
    for _ in range(int(rng.integers(3, 9))):
        start, bend = rng.uniform(-1.5, 1.5), rng.uniform(-4, 4)
        d = (angle - start - bend * np.maximum(outline, -0.05)) * 0.55
        drawn = max(0.007, v.px / 2)
        v.blend(coverage(np.abs(d) - drawn, v.px) * near * (0.007 / drawn) * 0.8, scene.hair)


def draw_beard(scene: Scene) -> None:
    """A full beard, a trimmed one or a goatee, with a moustache, and bare skin around the lips."""
    look, face = scene.look, scene.face
    v = scene.canvas.view(-0.65, -0.1, 0.65, 0.95)
    middle, _ = scene.project(0.0, 1.0)
    x = v.x - middle
    side = np.abs(v.x - scene.x - 0.05 * scene.turn) / scene.half_width
    cheek = scene.nose_y + 0.085 - 0.23 * smoothstep(side, 0.50, 0.98)
    if look.beard < 0.45:
        reach = 0.03 + 0.10 * look.beard
        edge = scene.head(v, 0.015 + reach * smoothstep(v.y, 0.2, 0.6)) - 0.02 * np.abs(np.sin(x * 24 + 6 * look.wave))
        region = np.maximum(edge, cheek - v.y)
    elif look.beard < 0.75:
        region = np.maximum(scene.head(v, 0.006), cheek + 0.03 * (side < 0.5) - v.y)
    else:
        chin = ellipse(x, v.y - scene.mouth_y - 0.10, 0.20, 0.24)
        region = np.maximum(np.maximum(chin, scene.head(v, 0.05)), scene.nose_y + 0.075 - v.y)
    open_up = 0.055 * face.open_mouth + 0.02 * face.smiling
    lips = ellipse(x, v.y - scene.mouth_y - 0.012 - 0.4 * open_up, 0.125 + 0.05 * face.smiling, 0.058 + open_up)
    colour = scene.hair_colour(v, "beard", 0.6, -0.12)
    v.fill(np.maximum(region, -lips), colour, 0.96, blur=0.02)


def draw_hat(scene: Scene) -> None:
    """A beanie, sun hat, cap or beret, with its shadow on the brow."""
    y, v = scene.hat_y, scene.canvas.view(-1, -1, 1, 0.3)
    shadow = coverage(scene.head(v), v.px) * smoothstep(v.y, y + 0.20, y)
    v.blend(0.5 * shadow, scene.skin_shadow)
    (_beanie, _sun_hat, _cap, _beret)[int(scene.look.hat * 4)](scene, v, y)


def _felt(scene: Scene, v: View, colour: Array, texture: Array | float = 0.0) -> Array:
    """Cloth (3, h, w) under the light; `texture` makes it lighter or darker."""
    return scene.shaded(v, colour, colour * 0.62, mix(colour, rgb("fff6e6"), 0.32), 0.05 + texture)


def _dome(scene: Scene, v: View, y: float, height: float) -> Array:
    """The crown of a hat: half an ellipse on the hat line."""
    x = v.x - scene.x + 0.05 * scene.turn
    return np.maximum(ellipse(x, v.y - y, scene.half_width + 0.085, height), v.y - y - 0.02)


def _beanie(scene: Scene, v: View, y: float) -> None:
    """A ribbed knitted cap with a turned-up cuff and a pompom."""
    look, x = scene.look, v.x - scene.x + 0.05 * scene.turn
    ribs = 0.22 * np.sin(x * 44 * (1 + 0.25 * np.abs(x))) + 0.08 * scene.grain(v, "hat", 40)
    bob = np.hypot(x, v.y - y + 0.48) - 0.125 - _bumps(scene, x, v.y - y + 0.48, 22, 0.03)
    v.fill(bob, _felt(scene, v, look.trim_colour, 0.15 * scene.grain(v, "pompom", 60)))
    v.fill(_dome(scene, v, y, 0.46), _felt(scene, v, look.hat_colour, ribs))
    cuff = rounded_box(x, v.y - y + 0.03 + 0.10 * x * x, scene.half_width + 0.105, 0.095, 0.06)
    v.fill(cuff, _felt(scene, v, look.trim_colour, ribs))


def _sun_hat(scene: Scene, v: View, y: float) -> None:
    """A straw hat with a ribbon and a wide brim."""
    look, x = scene.look, v.x - scene.x
    straw = mix(look.hat_colour, rgb("f2d7a0"), 0.65)
    weave = 0.07 * np.sin(v.y * 90) + 0.10 * scene.grain(v, "hat", 44)
    v.fill(_dome(scene, v, y, 0.46), _felt(scene, v, straw, weave))
    v.fill(np.maximum(_dome(scene, v, y, 0.46), y - 0.17 - v.y), _felt(scene, v, look.trim_colour))
    brim = ellipse(x, v.y - y + 0.02 + 0.10 * x * x, 0.86, 0.115)
    v.fill(brim, _felt(scene, v, straw, weave + 0.35 - 2.2 * np.clip(v.y - y + 0.06, 0, 0.2)))


def _cap(scene: Scene, v: View, y: float) -> None:
    """A baseball cap; its visor turns with the face."""
    look, x = scene.look, v.x - scene.x + 0.05 * scene.turn
    dome = _dome(scene, v, y, 0.47)
    seams = -0.5 * np.exp(-(((np.abs(x) - 0.21) / 0.012) ** 2))
    v.fill(dome, _felt(scene, v, look.hat_colour, 0.05 * scene.grain(v, "hat", 40) + seams * 0.6))
    badge = ellipse(v.x - scene.project(0.0, 0.9)[0], v.y - y + 0.22, 0.11, 0.10)
    v.fill(badge, mix(look.trim_colour, rgb("fffdf8"), 0.35))
    peak, _ = scene.project(0.0, 1.5)
    visor = ellipse(v.x - peak, v.y - y - 0.03 + 0.5 * (v.x - peak) ** 2, 0.46, 0.115)
    v.fill(visor, _felt(scene, v, look.hat_colour * 0.72, 0.25 - 3 * np.clip(v.y - y - 0.02, -0.1, 0.15)))


def _beret(scene: Scene, v: View, y: float) -> None:
    """A felt beret that leans to one side."""
    look = scene.look
    lean = 1.0 if look.parting > 0 else -1.0
    a, b = turned(v.x - scene.x - 0.10 * lean, v.y - y + 0.20, 0.16 * lean)
    v.fill(np.hypot(a, b + 0.27) - 0.045, _felt(scene, v, look.hat_colour))
    felt = _felt(scene, v, look.hat_colour, 0.12 * scene.grain(v, "hat", 36) + 0.2)
    v.fill(ellipse(a, b, 0.64, 0.265), felt)
    x = v.x - scene.x
    band = rounded_box(x + 0.03 * scene.turn, v.y - y + 0.05 + 0.12 * x**2, scene.half_width + 0.05, 0.045, 0.04)
    v.fill(band, _felt(scene, v, look.hat_colour * 0.75))
