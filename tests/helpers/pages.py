"""What tests of pages and figures look at: the outline of a page, a figure as an image."""

from __future__ import annotations

import io
from html.parser import HTMLParser

from matplotlib.image import imread

from sparcell import pl


def picture(figure):
    return imread(io.BytesIO(pl.png(figure)))


class Outline(HTMLParser):
    """Collects what stands in the page: opened tags, ids, outside links."""

    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key in ("src", "href") and not value.startswith(("data:", "#")):
                self.outside.append(value)
