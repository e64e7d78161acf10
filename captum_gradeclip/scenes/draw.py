"""Drawing: the picture of a scene, together with the mask of each thing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .world import COLOURS, Scene, Thing

Mask = npt.NDArray[np.bool_]

EDGE = 0.035
"""Width of the dark edge inside the outline of a thing, as a share of the picture's side.

The shape of a thing can be seen where its color ends. A patch in which that is seen has its center outside the thing about
every second time if the color ends at the outline, and inside it if there is an edge of about half a patch."""
EDGE_LIGHT = 0.25
"""Brightness of the edge, as a share of that of the thing's color."""


def draw(scene: Scene, size: int = 96) -> tuple[Image.Image, Mask]:
    """Paints a scene, anti-aliased, on its textured and noisy background.

    Args:
        scene: the scene.
        size: side of the picture in pixels (default 96); the arrangement is the same at every size.

    Returns:
        The RGB picture ``(size, size)``, and masks ``(things, size, size)``, boolean: True on the pixels of which at least
        half shows that thing. What a later thing covers is not part of an earlier one.

    >>> from captum_gradeclip.scenes import sample_scene
    >>> picture, masks = draw(sample_scene(seed=0, index=3), size=96)
    >>> picture.size, masks.shape[1:], bool(masks.any(axis=(1, 2)).all())
    ((96, 96), (96, 96), True)
    """
    rng = np.random.default_rng(scene.texture)
    canvas = _background(rng, size)
    masks = np.zeros((len(scene.things), size, size), dtype=bool)
    for number, thing in enumerate(scene.things):
        cover, face = _cover(thing, size), _cover(thing, size, edge=EDGE)
        light = EDGE_LIGHT + (1 - EDGE_LIGHT) * face[..., None]
        canvas += cover[..., None] * (light * _paint(thing, rng, size) - canvas)
        masks[:number] &= cover < 0.5
        masks[number] = cover >= 0.5
    canvas += rng.normal(0, rng.uniform(2, 9), canvas.shape)
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8)), masks


def _background(rng: np.random.Generator, size: int) -> npt.NDArray[np.float32]:
    """A grayish tint with soft clouds and, on about every other picture, faint waves."""
    tint = rng.uniform(60, 200) + rng.uniform(-18, 18, 3)
    cells = int(rng.integers(3, 9))
    clouds = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    light = rng.uniform(5, 30) * np.asarray(clouds.resize((size, size), Image.Resampling.BICUBIC))
    if rng.random() < 0.5:
        y, x = np.mgrid[:size, :size] / size
        angle, frequency = rng.uniform(0, math.pi), rng.uniform(15, 75)
        light = light + rng.uniform(4, 16) * np.sin(frequency * (x * math.cos(angle) + y * math.sin(angle)))
    return (tint + light[..., None]).astype(np.float32)


def _paint(thing: Thing, rng: np.random.Generator, size: int) -> npt.NDArray[np.float32]:
    """The thing's color in every pixel of the picture, with its stripes, if it has any."""
    color = np.asarray(COLOURS[thing.colour]) * rng.uniform(0.88, 1.06) + rng.uniform(-10, 10, 3)
    if thing.material == "plain":
        return np.broadcast_to(color, (size, size, 3)).astype(np.float32)
    y, x = np.mgrid[:size, :size] / size
    angle = math.pi / 4 + thing.angle
    wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / 0.085)
    dark = np.clip(0.5 + 1.5 * wave, 0, 1)[..., None]
    striped: npt.NDArray[np.float32] = ((1 - 0.6 * dark) * color).astype(np.float32)
    return striped


def _cover(thing: Thing, size: int, edge: float = 0.0) -> npt.NDArray[np.float32]:
    """The share of each pixel that the thing covers, 0 to 1, from a drawing with pixels of a quarter of the side.

    Args:
        thing: the thing.
        size: side of the picture in pixels.
        edge: width of what is left out inside the outline, as a share of the picture's side.
    """
    fine = 4
    x, y, r = (value * size * fine for value in (thing.x, thing.y, thing.radius))
    # Only the square around the thing is drawn, since the time of drawing grows with the area.
    left, top = (max(0, math.floor((value - 1.1 * r) / fine)) for value in (x, y))
    right, bottom = (min(size, math.ceil((value + 1.1 * r) / fine) + 1) for value in (x, y))
    stencil = Image.new("L", ((right - left) * fine, (bottom - top) * fine))
    pen = ImageDraw.Draw(stencil)
    x, y, width = x - left * fine, y - top * fine, round(edge * size * fine)
    if thing.shape in ("circle", "ring"):
        outer, inner = r - width, 0.42 * r + width
        pen.ellipse((x - outer, y - outer, x + outer, y + outer), fill=255)
        if thing.shape == "ring":
            pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=0)
    else:
        cos, sin = math.cos(thing.angle), math.sin(thing.angle)
        corners = [(x + r * (u * cos - v * sin), y + r * (u * sin + v * cos)) for u, v in _OUTLINES[thing.shape]]
        pen.polygon(corners, fill=255)
        if width:  # a line has one half of its width on each side of the outline
            pen.line([*corners, *corners[:2]], fill=0, width=2 * width, joint="curve")
    cover = np.zeros((size, size), dtype=np.float32)
    cover[top:bottom, left:right] = np.asarray(stencil.reduce(fine), dtype=np.float32) / 255
    return cover


def _corners(count: int, radii: tuple[float, ...]) -> list[tuple[float, float]]:
    """``count`` points around the center, clockwise from the top, whose distances go through ``radii`` in turn."""
    angles = [2 * math.pi * corner / count for corner in range(count)]
    return [(radii[n % len(radii)] * math.sin(a), -radii[n % len(radii)] * math.cos(a)) for n, a in enumerate(angles)]


_ARM = 0.38
_OUTLINES = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": _corners(3, (1.08,)),
    "star": _corners(10, (1.12, 0.52)),
    # a quarter of the cross, turned three times
    "cross": [
        (u * cos - v * sin, u * sin + v * cos)
        for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1))
        for u, v in ((-_ARM, -1), (_ARM, -1), (_ARM, -_ARM))
    ],
}
