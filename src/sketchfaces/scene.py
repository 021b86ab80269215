"""A face to draw (`Face`), its unlabelled shapes and colours (`Look`), and its layout on the page (`Scene`)."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from sketchfaces.canvas import (
    Array,
    Canvas,
    View,
    ellipse,
    lattice,
    mix,
    oklch,
    palette,
    ramp,
    rgb,
    smooth_union,
    smoothstep,
)

SKIN = palette("ffe3d0 fbd0b0 eab58c cf935f a16a40 7d4e34 643f2d")
HAIR = palette("2a2230 4a2f2a 7a4830 a85a32 cf8a48 f0cb84")
EYES = palette("4a2c1c 6b4226 3d6b4f 3f6f9e 6f7f8c 4d3a40")
CLOTHES = palette("e4572e f2a541 f3d34a 76b041 2e9e8f 3a7ca5 5b5ea6 9b5094 d6617a f4efe6 3c4654 8c6a4f")
FRAMES = palette("2b2a33 6b3a2a 8a2f3b 2f4f6b 8a6420")
MAX_YAW = 0.46  # radians at head_turn = 1
RANGES = {
    "head_turn": (-1.0, 1.0),
    "age": (5.0, 80.0),
    "light_direction": (-1.0, 1.0),
    "skin_tone": (0.0, 1.0),
    "hair_tone": (0.0, 1.0),
    "background_hue": (20.0, 320.0),
}
"""Allowed values of the continuous fields of a `Face`."""
LOOKS = (
    "width", "jaw", "nose", "eye_size", "brow", "brow_tilt", "mouth", "lips", "lashes", "blush", "eyes", "hair_style",
    "parting", "fringe", "wave", "volume", "greying", "glasses", "frame", "hat", "beard", "shirt", "earring",
)  # fmt: skip
"""Names of the random numbers in a `Look`, in the order of drawing."""
STREAMS = (
    "background", "blobs", "cloth", "pores", "blotches", "freckles", "wrinkles", "back hair", "front hair", "curls",
    "scallops", "hairline", "flyaways", "beard", "hat", "pompom",
)  # fmt: skip
"""Parts with fine detail; each has its own random stream."""


@dataclass(frozen=True)
class Face:
    """Everything that determines a drawn face, apart from its size.

    All fields are labels, except the seeds `look` and `detail`.

    Raises:
        ValueError: a number outside its range, or a negative seed.
    """

    smiling: bool = False
    open_mouth: bool = False
    """With teeth if smiling, round if not."""
    glasses: bool = False
    hat: bool = False
    beard: bool = False
    long_hair: bool = False
    earrings: bool = False
    head_turn: float = 0.0
    """-1 (towards the left of the picture) .. 1 (right)."""
    age: float = 30.0
    """Years, 5..80."""
    light_direction: float = 0.0
    """-1 (light from the left of the picture) .. 1 (right)."""
    skin_tone: float = 0.3
    """0 (light) .. 1 (dark)."""
    hair_tone: float = 0.3
    """0 (black) .. 1 (blond), before age greys it."""
    background_hue: float = 200.0
    """Degrees of OKLCH hue, 20 (red) .. 320 (violet)."""
    look: int = 0
    """Seed of the shapes and colours without a label: hair style, hat, frames, shirt, proportions."""
    detail: int = 0
    """Seed of the fine random detail: strands, freckles, texture, background pattern."""

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} = {value}: a sketch face needs a value from {low:g} to {high:g}")
        for name in ("look", "detail"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}: a seed must not be negative")


class Look(SimpleNamespace):
    """Shapes and colours without a label, from the seed `Face.look`: numbers in [0, 1] (`parting`: [-1, 1])."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        super().__init__(**dict(zip(LOOKS, rng.random(32), strict=False)))
        clothes = rng.permutation(len(CLOTHES))
        self.hat_colour, self.shirt_colour, self.trim_colour = (CLOTHES[index] for index in clothes[:3])
        self.eyes, self.frame = EYES[int(self.eyes * len(EYES))], FRAMES[int(self.frame * len(FRAMES))]
        self.parting = self.parting * 2 - 1


class Scene:
    """A face on a canvas: its proportions, its colours, the light on it, and the random streams of its detail."""

    def __init__(self, face: Face, canvas: Canvas) -> None:
        self.face, self.canvas, self.look = face, canvas, Look(face.look)
        self.child = float(smoothstep(face.age, 24, 3))
        self.old = float(np.clip((face.age - 30) / 45, 0, 1)) ** 1.3
        self.yaw = face.head_turn * MAX_YAW
        self.turn = float(np.sin(self.yaw))
        self._place()
        self._colour()
        self._light()

    def _place(self) -> None:
        """Set the proportions: a child's head is rounder, its eyes lower and larger, its nose and shoulders smaller."""
        look, child = self.look, self.child
        self.x = 0.10 * self.turn
        self.y = -0.02 + 0.05 * child
        self.half_width = 0.455 + 0.03 * (look.width - 0.5) + 0.005 * child
        self.chin = 0.60 - 0.05 * child + 0.04 * (look.jaw - 0.5)
        self.eye_y = 0.03 + 0.11 * child
        self.hat_y = self.eye_y - 0.225
        self.mouth_y = 0.365 + 0.02 * child
        self.nose_y = 0.20 + 0.055 * child
        self.shoulders = 0.66 - 0.14 * child

    def _colour(self) -> None:
        """Set the base, shadow and light colours of skin and hair; hair greys with age."""
        face, look = self.face, self.look
        self.skin = ramp(SKIN, face.skin_tone)
        self.skin_shadow = self.skin * np.array([0.80, 0.66, 0.67], np.float32)
        self.skin_light = mix(self.skin, rgb("fff4e0"), 0.38 - 0.16 * face.skin_tone)
        self.line = mix(self.skin * np.array([0.45, 0.30, 0.30], np.float32), rgb("2a1a22"), 0.35)
        grey = float(smoothstep(face.age, 38 + 14 * look.greying, 66 + 14 * look.greying))
        self.hair = mix(ramp(HAIR, face.hair_tone), rgb("d9d8dc"), 0.95 * grey)
        self.hair_shadow = self.hair * np.array([0.60, 0.55, 0.62], np.float32)
        self.hair_light = mix(self.hair, rgb("ffe9c8"), 0.34)
        self.background = oklch(0.83, 0.085, face.background_hue)

    def _light(self) -> None:
        """Set `shade` (n, n) in [-1, 1]: how directly a head-shaped surface faces the light; negative is shadow."""
        canvas = self.canvas
        angle = self.face.light_direction * 1.15
        nx = (canvas.x - self.x) / (self.half_width * 1.15)
        ny = (canvas.y - self.y) / 0.72
        nz = np.sqrt(np.clip(1 - nx * nx - ny * ny, 0.10, 1))
        lit = np.sin(angle) * nx - 0.38 * ny + np.cos(angle) * 0.75 * nz
        self.shade = np.clip((lit - 0.42) * 1.25, -1, 1).astype(np.float32)

    def detail(self, part: str) -> np.random.Generator:
        """The random stream of one of `STREAMS`; the streams are independent."""
        return np.random.Generator(np.random.SFC64([self.face.detail, STREAMS.index(part)]))

    def project(self, u: float, out: float = 1.0) -> tuple[float, float]:
        """Position of a point of the face after the head has turned, and how much its width is foreshortened.

        Args:
            u: horizontal position on the face seen from the front, in half widths, -1..1.
            out: distance from the head's axis in head radii; more than 1 for the nose.
        """
        longitude = float(np.arcsin(u))
        x = self.x + self.half_width * out * float(np.sin(longitude + self.yaw))
        return x, max(float(np.cos(longitude + self.yaw) / np.cos(longitude)), 0.3)

    def head(self, v: View, grow: Array | float = 0.0) -> Array:
        """Distance to the outline of the head without ears, on a view; the jaw turns ahead of the skull."""
        look, child = self.look, self.child
        skull_width = self.half_width + 0.02 * abs(self.turn)
        skull = ellipse(v.x - self.x + 0.05 * self.turn, v.y + 0.10 - 0.05 * child, skull_width, 0.47)
        jaw_width = self.half_width * (0.74 + 0.14 * look.jaw + 0.12 * child - 0.04 * self.old)
        jaw = ellipse(v.x - self.x - 0.13 * self.turn, v.y - (self.chin - 0.40), jaw_width, 0.40)
        return smooth_union(skull, jaw, 0.16) - grow

    def shaded(self, v: View, base: Array, shadow: Array, light: Array, lift: Array | float = 0.0) -> Array:
        """A colour (3, h, w) under the scene's light: `base` where half lit, `shadow` and `light` at the extremes."""
        s = self.shade[v.at] + lift
        dark, bright = np.clip(-s, 0, 1), np.clip(s, 0, 1)
        return base[:, None, None] + dark * (shadow - base)[:, None, None] + bright * (light - base)[:, None, None]

    def skin_colour(self, v: View, lift: Array | float = 0.0) -> Array:
        """Skin (3, h, w) under the scene's light."""
        return self.shaded(v, self.skin, self.skin_shadow, self.skin_light, lift)

    def strands(self, v: View, part: str, curl: float) -> Array:
        """Hair texture (h, w), about -1..1: lines that run out of the parting, waved by `curl`."""
        rng = self.detail(part)
        x = v.x - (self.x + 0.12 * self.look.parting)
        y = v.y + 0.80
        r = np.sqrt(x * x + y * y)
        angle = np.arctan2(x, y) + curl * 0.07 * np.sin(r * (16 + 10 * self.look.wave) + 6 * rng.random())
        places = np.arange(-256, 256, dtype=np.float32)
        fine = np.interp(angle * 60, places, rng.standard_normal(512, np.float32))
        broad = np.interp(angle * 15, places, rng.standard_normal(512, np.float32))
        return (0.45 * fine + 0.55 * broad).astype(np.float32)

    def hair_colour(self, v: View, part: str, curl: float, lift: Array | float = 0.0) -> Array:
        """Hair (3, h, w): strands, the scene's light, and a band of sheen across the crown."""
        strands = self.strands(v, part, curl)
        x, y = v.x - self.x, v.y + 0.05
        r = np.sqrt(x * x + y * y)
        towards = (x * np.sin(self.face.light_direction * 1.15) - y * 0.8) / (r + 1e-3)
        sheen = np.exp(-(((r - 0.50) / 0.05) ** 2)) * np.clip(towards, 0, 1)
        return self.shaded(v, self.hair, self.hair_shadow, self.hair_light, lift + 0.28 * strands + 0.7 * sheen)

    def grain(self, v: View, part: str, cells: int) -> Array:
        """Smooth noise on a view, about unit variance, with `cells` cells across the page."""
        return lattice(self.detail(part), cells, self.canvas.rgb.shape[1])[v.at]
