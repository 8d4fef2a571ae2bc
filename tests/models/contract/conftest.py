"""What the contract suite shares: the cells, every kind, and a fitted model of each."""

from __future__ import annotations

import pytest

from helpers.kinds import KINDS, fitted
from helpers.simulated import simulated_cells


@pytest.fixture(scope="package")
def adata():
    simulated = simulated_cells()
    simulated.raw = simulated
    return simulated


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    """Return the model that is fitted once per session; tests must not change it."""
    return fitted(kind)


@pytest.fixture(scope="module")
def short_model(kind):
    """Return a model of a few steps, for tests in which it does not matter what is learned."""
    return fitted(kind, epochs=4)
