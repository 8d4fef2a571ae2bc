"""Small PNGs for the documentation: at most 256 colors, about a fifth of the size of what matplotlib writes."""

from __future__ import annotations

import io

from PIL import Image

COLORS = 256


def light_png(png: bytes, max_width: int | None = None) -> bytes:
    """Return a PNG with a palette of at most 256 colors, scaled down to `max_width` pixels if it is wider."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if max_width is not None and max_width < image.width:
        size = (max_width, round(image.height * max_width / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
