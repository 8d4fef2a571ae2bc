"""Likelihoods of sparse cells against the plain formulas of dense ones and against numerical gradients.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from helpers.cells import generator, sparse_rows
from helpers.kernel_cells import PATHS, G, H, N, likelihood_and_hidden, random_counts, sparse_and_dense
from sparcell.kernels import counts, threads, zero_inflated_loops
from sparcell.likelihoods import LIKELIHOODS


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("high", [0, 30, 100_000])
@pytest.mark.parametrize("n_genes", [G, 2 * zero_inflated_loops.PIECE + 77])
@pytest.mark.parametrize(("name", "dispersion"), PATHS)
def test_sparse_cells_have_the_likelihood_and_gradients_of_dense_ones(name, dispersion, n_genes, high, even):
    """Few genes, and several pieces and blocks of them."""
    likelihood, h_nh = likelihood_and_hidden(name, dispersion, n_genes=n_genes)
    assert n_genes in (G, counts.BLOCK_GENES + 77), "there is a second block of the table too"
    weight_n = torch.ones(N, dtype=torch.float64) if even else torch.rand(N, generator=generator()).double()
    outputs = []
    for batch in sparse_and_dense(random_counts(high=high, n_genes=n_genes), 2):
        nll_n = likelihood.nll(h_nh, batch)
        grads = torch.autograd.grad((weight_n * nll_n).sum(), [h_nh, *likelihood.parameters()])
        outputs.append((nll_n, *grads))
    for fast, plain in zip(*outputs, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "dispersion"), PATHS)
def test_in_single_precision_too(name, dispersion):
    likelihood, h_nh = likelihood_and_hidden(name, dispersion, torch.float32)
    outputs = []
    for batch in sparse_and_dense(random_counts(high=50), 2, torch.float32):
        nll_n = likelihood.nll(h_nh, batch)
        outputs.append((nll_n, *torch.autograd.grad(nll_n.mean(), [h_nh, *likelihood.parameters()])))
    for fast, plain in zip(*outputs, strict=True):
        torch.testing.assert_close(fast, plain, rtol=2e-5, atol=2e-5 * float(plain.detach().abs().max()))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_no_likelihood_makes_sparse_cells_dense(name):
    likelihood, h_nh = likelihood_and_hidden(name, dtype=torch.float32)
    rows, dense = sparse_and_dense(random_counts(), 2, torch.float32)
    assert torch.isfinite(likelihood.nll(h_nh, rows)).all()
    assert "x_ng" not in vars(rows)
    assert rows.x_ng.equal(dense.x_ng)
    assert "x_ng" in vars(rows), "that is how it would be seen"


class Nll(torch.nn.Module):
    def __init__(self, likelihood):
        super().__init__()
        self.likelihood = likelihood

    def forward(self, h_nh, batch):
        return self.likelihood.nll(h_nh, batch)


@pytest.mark.parametrize(("name", "dispersion"), PATHS)
def test_gradients_are_the_numerical_ones(name, dispersion):
    likelihood, h_nh = likelihood_and_hidden(name, dispersion)
    batch = sparse_and_dense(random_counts()[:6], 2)[0]
    names = [name for name, _ in likelihood.named_parameters()]

    def nll(h_nh, *weights):
        of_name = {f"likelihood.{n}": w for n, w in zip(names, weights, strict=True)}
        return torch.func.functional_call(Nll(likelihood), of_name, (h_nh, batch))

    assert torch.autograd.gradcheck(nll, (h_nh[:6], *likelihood.parameters()))


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-5), (torch.float64, 1e-8)])
@pytest.mark.parametrize(("name", "dispersion"), PATHS)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_expected_expression_of_sparse_cells_is_that_of_the_mean(name, dispersion, scale, dtype, near):
    likelihood, h_nh = likelihood_and_hidden(name, dispersion, dtype)
    rows, dense = sparse_and_dense(random_counts(), 2, dtype)
    with torch.no_grad():
        fast_ng = likelihood.log_expression(scale * h_nh, rows, 1e4)
        assert likelihood.log_expression(scale * h_nh, dense, 1e4) is None
        assert (fast_ng is not None) == likelihood.counts
        if fast_ng is None:
            return
        mean_ng = likelihood.distribution(scale * h_nh, dense).mean
        plain_ng = torch.log1p(mean_ng * (1e4 / dense.library_size_n1))
    torch.testing.assert_close(fast_ng, plain_ng, rtol=near, atol=near * float(plain_ng.abs().max()))


@pytest.mark.parametrize("name", ["nb", "zinb", "gaussian"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_stay_so(name, bad):
    likelihood, h_nh = likelihood_and_hidden(name, dtype=torch.float32)
    with torch.no_grad():
        h_nh[5, 0] = bad
    nll_n = likelihood.nll(h_nh, sparse_and_dense(random_counts(), 2, torch.float32)[0])
    assert not nll_n[5].isfinite()
    assert not torch.autograd.grad(nll_n.mean(), h_nh)[0].isfinite().all()
    if name != "gaussian":  # the expanded square mixes cells in its gradients only
        assert nll_n[:5].isfinite().all()


@pytest.mark.parametrize("name", ["nb", "zinb", "poisson", "gaussian"])
def test_any_number_of_threads_gives_the_same_bits(name, monkeypatch):
    """Sums over blocks too."""
    likelihood, h_nh = likelihood_and_hidden(name, dtype=torch.float32)
    batch = sparse_and_dense(np.tile(random_counts(), (5, 1)), 2, torch.float32)[0]
    outputs = []
    for n in (1, 2, 4):
        monkeypatch.setattr(threads, "n_threads", lambda n=n: min(n, threads.numba.config.NUMBA_NUM_THREADS))
        nll_n = likelihood.nll(h_nh.repeat(5, 1), batch)
        outputs.append((nll_n, *torch.autograd.grad(nll_n.mean(), likelihood.parameters())))
    for other in outputs[1:]:
        assert all(torch.equal(one, two) for one, two in zip(outputs[0], other, strict=True))


@pytest.mark.parametrize(("n_heads", "n_dispersions"), [(1, 0), (1, 1), (2, 1)])
def test_bfloat16_rounds_the_factors_of_the_products_and_nothing_else(n_heads, n_dispersions, monkeypatch):
    """The same bits as float32 with logits rounded beforehand."""
    noise = generator()
    x_ng = sparse.csr_matrix(np.random.default_rng(0).poisson(0.4, (N, G)).astype(np.float32))
    h_nh, log_r_bg = torch.randn(N, H, generator=noise), torch.randn(n_dispersions, G, generator=noise)
    heads = [
        part
        for _ in range(n_heads)
        for part in (torch.randn(G, H, generator=noise), torch.randn(G, generator=noise))
    ]
    cells = counts._Cells(sparse_rows(x_ng), np.full(N, 12, np.float32), np.zeros(N, np.int64))
    rounded = counts._evaluate(cells, True, torch.ones(N), h_nh, log_r_bg, heads)

    def product(a, b, bias, *, bfloat16):
        return (a.bfloat16() @ b.bfloat16().t()).float() + bias

    monkeypatch.setattr(counts, "product", product)
    expected = counts._evaluate(cells, False, torch.ones(N), h_nh, log_r_bg, heads)
    assert torch.equal(rounded[0], expected[0])
    for part in (1, 2):
        assert all(torch.equal(one, two) for one, two in zip(rounded[part], expected[part], strict=True))
