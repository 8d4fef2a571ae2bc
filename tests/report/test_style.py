"""The colors of the pages: text is readable in light and in dark mode (WCAG 2.2, level AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sparcell import report
from sparcell.pl.colors import contrast

CSS = (Path(report.__file__).parent / "style.css").read_text(encoding="utf-8")
AA = 4.5
PAIRS = [
    *((text, ground) for text in ("ink", "soft", "faint", "accent") for ground in ("page", "wash")),
    *(("accent", "accent-wash"), ("ink", "accent-wash"), ("soft", "accent-wash"), ("faint", "accent-wash"), ("on-accent", "accent")),
    *(("ink", "warn-wash"), ("warn", "warn-wash"), ("ink", "heat"), ("map-ink", "map-page"), ("map-soft", "map-page")),
]  # fmt: skip


def variables():
    """Return the colors of the light and of the dark mode by name."""
    light, dark = re.findall(r":root \{(.*?)\n *\}", CSS, re.DOTALL)[:2]
    modes = [dict(re.findall(r"--([a-z-]+):(#[0-9a-f]{6})", block)) for block in (light, dark)]
    assert set(modes[0]) == set(modes[1]), "each color has a value in both modes"
    return dict(zip(("light", "dark"), modes, strict=True))


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_is_readable(mode, text, ground):
    colors = variables()[mode]
    assert contrast(colors[text], colors[ground]) >= AA


def test_no_rule_has_a_color_of_its_own():
    rules = CSS[CSS.index("* { box-sizing") :]
    assert re.findall(r"#[0-9a-f]{3,6}\b", rules.replace("#000", "")) == []


def test_the_vendored_bundle_is_small_and_comes_with_its_license():
    folder = Path(report.__file__).parent / "vendor"
    script = folder / "plotly-basic.min.js"
    assert script.stat().st_size < 1.5e6
    assert "MIT License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert "</script" not in script.read_text(encoding="utf-8").lower()
