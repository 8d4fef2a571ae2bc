"""Ends of messages: the most similar name, whatever type the unknown one has."""

from __future__ import annotations

import pytest

from sparcell.errors import did_you_mean


@pytest.mark.parametrize(
    ("word", "choices", "end"),
    [
        ("cel_type", ["cell_type", "donor"], "did you mean 'cell_type'?"),
        (0, ["0", "1"], "did you mean '0'?"),
        (None, ["donor", "batch"], "there are: donor, batch."),
        ("x", [], "there are none."),
    ],
)
def test_a_name_of_any_type_is_compared_as_text(word, choices, end):
    assert did_you_mean(word, choices) == end
