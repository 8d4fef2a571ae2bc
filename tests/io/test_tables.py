"""Tables without a header or without names are not read as if they had them, silently."""

from __future__ import annotations

import warnings

import pytest

from sparcell import io
from sparcell.errors import InputError


def read(path, text):
    path.write_text(text)
    return io.read(path)


def test_a_header_of_repeated_numbers_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"begins with a row of numbers \(c0, 0, 3, 0"):
        read(tmp_path / "a.csv", "c0,0,3,0\nc1,1,0,2\n")


@pytest.mark.filterwarnings("ignore:.*repeated gene name")
def test_a_header_that_looks_like_data_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"the header looks like data \(c0, 5, 3, 0"):
        read(tmp_path / "a.csv", "c0,5,3,0\nc1,1,0,2\nc2,0,2,2\n")


@pytest.mark.filterwarnings("ignore:.*repeated gene name")
def test_a_first_column_that_looks_like_data_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"the first column looks like data \(0, 7, 0, …\)"):
        read(tmp_path / "a.csv", "G1,G2,G3\n0,3,1\n7,0,1\n0,1,1\n")


@pytest.mark.parametrize("names", [range(30), range(1, 31), [2 * i + 9 for i in range(30)]])
def test_numbers_that_are_names_are_not_warned_of(names, tmp_path):
    header = ",".join(["", *map(str, names)])
    rows = "".join(f"{name}," + ",".join(["1"] * 30) + "\n" for name in names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path / "a.csv", f"{header}\n{rows}").shape == (30, 30)
