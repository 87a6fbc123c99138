"""Characters drawn from the fonts that matplotlib ships, distorted: made from a seed, nothing to download."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.characters import CHARACTERS, SIDE, Characters
from ostrakon.common.tasks.contract import Examples
from ostrakon.common.tasks.images import image_examples
from ostrakon.common.tasks.streams import TEST, WORKERS, stream

IMAGES_PER_WORKER = 900
TEST_IMAGES_PER_CLASS = 20

# The faces of matplotlib that have all 62 characters in their ordinary form.
FACES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
)

# Mean and standard deviation of a pixel (paper 1, ink 0) over 31,500 images of seed 1, rounded.
MEAN, STD = 0.834, 0.291

_CANVAS = 64  # pixels of a side of a master glyph
_CAPITAL = 40  # its capital height in pixels
_BLUR = 1.2  # pixels: turns edges into slopes, on which the width of the stroke is chosen

# Distortion, chosen so that the network of the seed learns most of it and look-alikes (O and o) stay confusable.
# Standard deviations: radians, logarithm of the factor, and lengths of which the canvas has 2.
_ROTATION, _SIZE, _SLANT, _SHIFT, _BEND = 0.155, 0.18, 0.2, 0.095, 0.055
# Ranges, of the full contrast between ink and paper.
_EDGE, _INK, _NOISE = (0.02, 0.2), (0.63, 1.0), (0.0, 0.18)
_SHARPNESS = 4

Pixels = NDArray[np.float32]


class Glyphs(Characters):
    """Each worker draws 900 characters of its own; 20 of each class are the test set."""

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        rng = stream(seed, WORKERS, worker)
        return _draw(rng, rng.integers(self.classes, size=IMAGES_PER_WORKER))

    def test_data(self, seed: int) -> Examples:
        return _draw(stream(seed, TEST), np.repeat(np.arange(self.classes), TEST_IMAGES_PER_CLASS))


def _draw(rng: np.random.Generator, labels: NDArray[np.int64]) -> Examples:
    """Draw one standardised image (m, 1, 28, 28) for each label: random face, shape, stroke width and noise.

    Everything but the look-up is elementwise and done by numpy, so that no bit depends on the number of threads.
    """
    m = len(labels)
    faces = rng.integers(len(FACES), size=m)
    chosen = torch.from_numpy(masters()[faces, labels]).unsqueeze(1)
    places = torch.from_numpy(_distortions(rng, m))
    coverage = nn.functional.grid_sample(chosen, places, align_corners=False).numpy()
    edge = _uniform(rng, m, *_EDGE)  # where on the blurred slope the stroke ends
    ink = np.clip((coverage - edge) * np.float32(_SHARPNESS), 0, 1) * _uniform(rng, m, *_INK)
    noise = rng.standard_normal(ink.shape, np.float32) * _uniform(rng, m, *_NOISE)
    pixels = (np.clip(1 - ink + noise, 0, 1) - np.float32(MEAN)) / np.float32(STD)
    return image_examples(pixels, labels)


def _distortions(rng: np.random.Generator, m: int) -> Pixels:
    """Where each pixel of each image looks in its master: (m, 28, 28, 2), x and y on a canvas of [-1, 1] x [-1, 1].

    An affine map (rotation, width, height, slant, place) plus slow cosine waves that bend the strokes.
    """
    axis = ((np.arange(SIDE) + 0.5) / (SIDE / 2) - 1).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    angle, slant = _normal(rng, m, _ROTATION), _normal(rng, m, _SLANT)
    width, height = np.exp(_normal(rng, m, _SIZE)), np.exp(_normal(rng, m, _SIZE))
    places = np.empty((m, SIDE, SIDE, 2), np.float32)
    places[..., 0] = (np.cos(angle) * x - np.sin(angle) * y) * width + slant * y + _normal(rng, m, _SHIFT)
    places[..., 1] = (np.sin(angle) * x + np.cos(angle) * y) * height + _normal(rng, m, _SHIFT)
    waves = np.cos(np.pi / 2 * np.arange(3, dtype=np.float32)[:, None] * (axis + 1)).astype(np.float32)
    for across, down in ((0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)):
        wave = waves[across][None, None, :] * waves[down][None, :, None]
        for direction in range(2):
            places[..., direction] += _normal(rng, m, _BEND / (across + down)) * wave
    return places


def _uniform(rng: np.random.Generator, m: int, low: float, high: float) -> Pixels:
    return rng.uniform(low, high, (m, 1, 1, 1)).astype(np.float32)


def _normal(rng: np.random.Generator, m: int, deviation: float) -> Pixels:
    return rng.normal(0, deviation, (m, 1, 1)).astype(np.float32)


@cache
def masters() -> Pixels:
    """Every character of every face, (faces, 62, 64, 64): coverage by ink, 0 to 1, capitals equally high, centred."""
    return np.stack([np.stack([_master(font, c) for c in CHARACTERS]) for font in map(_font, FACES)])


def _font(face: str) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    try:
        _, top, _, _ = ImageFont.truetype(path, 100).getbbox("H", anchor="ls")  # top is above the line: negative
        return ImageFont.truetype(path, 100 * _CAPITAL / -top)
    except OSError:
        raise OstrakonError(f"task glyphs draws with matplotlib's {path}, which cannot be read: reinstall it") from None


def _master(font: ImageFont.FreeTypeFont, character: str) -> Pixels:
    left, top, right, bottom = font.getbbox(character)
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    place = ((_CANVAS - left - right) / 2, (_CANVAS - top - bottom) / 2)
    ImageDraw.Draw(canvas).text(place, character, fill=255, font=font)
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(_BLUR)), np.float32) / np.float32(255)
