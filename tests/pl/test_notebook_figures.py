"""A notebook shows the figures of sparcell, also where pyplot was not imported."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pandas as pd
from PIL import Image

from sparcell import pl


def test_a_notebook_gets_a_png_and_its_size_on_the_page():
    history = pd.DataFrame(
        {"epoch": [1, 2], "loss": [3.0, 2.0], "validation_loss": [np.nan] * 2, "kl": [0.0, 0.0]}
    )
    figure = pl.history_curves(history, "β-VAE")
    data, size = figure._repr_png_()
    image = Image.open(BytesIO(data))
    width, height = figure.get_size_inches()
    assert (image.format, image.size) == ("PNG", (round(150 * width), round(150 * height)))
    assert size == {"width": round(96 * width), "height": round(96 * height)}
    assert np.asarray(image.convert("L")).std() > 1  # something is drawn
