"""Count likelihoods at the ends of single precision.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helpers.cells import cells, generator
from helpers.likelihoods import (
    COUNT_LIKELIHOODS,
    N_CELLS,
    hidden,
    random_counts,
    random_likelihood,
)

HARD_COUNTS = [0.0, 1.0, 7.0, 1e3, 1e5]


HARD_SIZES = [1.0, 1e3, 1e7]


HARD_LOG_R = [-15.0, -5.0, 0.0, 5.0, 15.0]


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("log_r", HARD_LOG_R)
@pytest.mark.parametrize("size", HARD_SIZES)
@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_value_and_gradient_are_finite_in_single_precision(name, size, log_r, scale):
    """A cell has counts from 0 to 1e5, which may be many times or a tiny fraction of its library size, and logits up to 100."""
    likelihood = random_likelihood(name, dtype=torch.float32)
    h_nh = (hidden(torch.float32) * scale).requires_grad_()
    x_ng = torch.tensor(HARD_COUNTS).expand(N_CELLS, -1)
    batch = replace(cells(x_ng), library_size_n1=torch.full((N_CELLS, 1), size))
    if hasattr(likelihood, "log_r"):
        with torch.no_grad():
            likelihood.log_r.fill_(log_r)
    nll_n = likelihood.nll(h_nh, batch)
    assert torch.isfinite(nll_n).all()
    nll_n.sum().backward()
    for leaf in (h_nh, *likelihood.parameters()):
        assert torch.isfinite(leaf.grad).all()
    with torch.no_grad():
        distribution = likelihood.distribution(h_nh, batch)
        assert torch.isfinite(distribution.log_prob(x_ng)).all()
        assert torch.isfinite(distribution.mean).all()
        assert torch.isfinite(distribution.sample(generator())).all()


@pytest.mark.parametrize("log_r", [-15.0, -5.0, 0.0, 5.0, 8.0])
@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_single_precision_is_near_double(name, log_r):
    """Values agree to thousandths of a nat, gradients to thousandths of the largest one."""
    results = {}
    for dtype in (torch.float32, torch.float64):
        likelihood = random_likelihood(name).to(dtype)
        if hasattr(likelihood, "log_r"):
            with torch.no_grad():
                likelihood.log_r.fill_(log_r)
        h_nh = hidden().to(dtype).requires_grad_()
        nll_n = likelihood.nll(h_nh, cells(random_counts().to(dtype)))
        nll_n.sum().backward()
        gradients = [h_nh.grad, *(parameter.grad for parameter in likelihood.parameters())]
        results[dtype] = nll_n.detach().double(), [gradient.double() for gradient in gradients]
    (nll_n, gradients), (exact_n, exact) = results[torch.float32], results[torch.float64]
    torch.testing.assert_close(nll_n, exact_n, rtol=1e-5, atol=3e-3)
    for one, other in zip(gradients, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=3e-3 * max(1.0, float(other.abs().max())))
