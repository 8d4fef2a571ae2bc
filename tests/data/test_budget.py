"""Windows are as large as the memory that training may take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparcell.data.budget import MIN_BLOCKS, MIN_BUDGET, N_WINDOWS, plan_memory
from sparcell.data.streaming import MAX_WINDOW_VALUES
from sparcell.errors import InputError


@given(
    n_cells=st.integers(1, 10**8),
    per_block=st.integers(1, 10**5),
    values=st.floats(1, 10**4),
    limit=st.integers(1, 10**11),
    n_columns=st.integers(0, 50),
)
def test_the_limit_is_kept_or_an_error_names_one_that_can_be(n_cells, per_block, values, limit, n_columns):
    n_stored = -(-n_cells // per_block)
    arguments = (n_cells, n_stored, values, min(n_cells // 10, 65_536))
    try:
        plan = plan_memory(*arguments, limit, n_columns)
    except InputError as error:
        enough = int(str(error).split("memory='")[1].split("MB")[0]) * 1_000_000
        assert enough > limit
        plan = plan_memory(*arguments, enough, n_columns)
        limit = enough
    assert plan.total <= max(limit, MIN_BUDGET) + 3  # parts are rounded
    assert (
        plan.n_blocks >= min(MIN_BLOCKS, n_stored) or plan.n_blocks == plan_memory(*arguments, None).n_blocks
    )


def test_windows_are_never_larger_than_without_a_limit():
    without = plan_memory(1_000_000, 2500, 168.0, 65_536, None)
    assert plan_memory(1_000_000, 2500, 168.0, 65_536, 10**12) == without
    values = without.n_blocks * 168 * 1_000_000 / 2500
    assert values == pytest.approx(MAX_WINDOW_VALUES, rel=0.01)
    assert without.windows == pytest.approx(N_WINDOWS * 8 * values)
    assert without.validation == 65_536 * 168 * 8


def test_an_error_lists_the_parts():
    with pytest.raises(
        InputError, match=r"at least .*: windows \d+ MB, validation cells 1.05 GB, numbers of each cell 40 MB"
    ):
        plan_memory(1_000_000, 30_000, 2000.0, 65_536, 500_000_000)
