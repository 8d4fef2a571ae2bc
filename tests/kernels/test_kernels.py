"""The fast paths of a training step against the plain formulas, against scipy and against numerical slopes.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from numba import njit
from scipy import sparse, special

from helpers.cells import cells, generator, sparse_rows
from helpers.kinds import KINDS, layer_of, settings_of
from helpers.simulated import simulated_cells
from sparcell import kernels
from sparcell.config.model import LikelihoodConfig
from sparcell.data import loader
from sparcell.kernels import count_loops as loops
from sparcell.kernels import (
    counts,
    float_bits,
    linear,
    sparse_linear,
    squared_distance,
    squares,
    team,
    zero_inflated_loops,
)
from sparcell.kernels.jit import FAST
from sparcell.kernels.linear import MANY, Linear, cells_of_block, rows_times
from sparcell.kernels.products import ONEDNN
from sparcell.kernels.squares import pays
from sparcell.likelihoods import LIKELIHOODS
from sparcell.protocols import Minibatch, SparseRowsPlusDelta

N, G, H = 40, 30, 5
PATHS = [
    ("gaussian", "gene"),
    ("poisson", "gene"),
    ("nb", "gene"),
    ("zinb", "gene"),
    ("nb", "gene-batch"),
    ("zinb", "gene-batch"),
]


@njit(fastmath=FAST, error_model="numpy")
def each(function, x):
    found = np.empty_like(x)
    for i in range(len(x)):
        found[i] = function(x[i])
    return found


@njit
def exp(x):
    return float_bits.exp(x)


@njit
def log1p(x):
    return float_bits.log1p(x)


@njit
def largest(x_ng, out_n):
    for n in range(len(x_ng)):
        out_n[n] = loops._largest(x_ng[n])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_logit_is_found(dtype):
    x_ng = (np.random.default_rng(0).normal(size=(50, 37)) - np.arange(50)[:, None] / 10).astype(dtype)
    x_ng[0, 5], x_ng[1, :], x_ng[2, 1:] = np.inf, -0.0, -np.inf
    out_n = np.empty(50, dtype)
    largest(x_ng, out_n)
    np.testing.assert_array_equal(out_n, x_ng.max(axis=1))


def test_exp_and_log1p_are_right_to_three_units_in_the_last_place():
    draw = np.random.default_rng(0)
    x = -np.abs(draw.normal(0, 25, 200_000)).clip(0, 86.9).astype(np.float32)
    np.testing.assert_allclose(each(exp, x), np.exp(x.astype(np.float64)), rtol=3 * 2**-24)
    t = np.exp(draw.uniform(-60, 60, 200_000)).astype(np.float32)
    t = np.concatenate([t, -draw.uniform(0, 0.9, 1000).astype(np.float32)])
    np.testing.assert_allclose(each(log1p, t), np.log1p(t.astype(np.float64)), rtol=6 * 2**-24)
    assert each(exp, np.float32([-200, -np.inf, 0]))[:2].max() < 2e-38
    for function in (exp, log1p):
        assert np.isnan(each(function, np.float32([np.nan, 0.5, -0.5] * 20))[::3]).all()


@pytest.mark.parametrize("x", [1.0, 2.0, 16.0, 17.0, 0.5, 2.5, 300.0, 1e5])
@pytest.mark.parametrize("r", [1e-4, 0.3, 7.9, 8.0, 250.0, 2e4])
def test_ratios_of_gamma_functions_are_scipy_s(x, r):
    found = loops.gamma_ratio(x, r)
    np.testing.assert_allclose(found[0], special.gammaln(x + r) - special.gammaln(r), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found[1], special.digamma(x + r) - special.digamma(r), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(loops.log_factorial(x), special.gammaln(x + 1), rtol=1e-13, atol=1e-13)


def drawn(seed=0, high=0, n_genes=G):
    """Counts of which many are 0, some cells empty, `high` counts in the first entry."""
    draw = np.random.default_rng(seed)
    x_ng = draw.poisson(draw.gamma(0.4, 2.0, (N, n_genes))).astype(np.float32)
    x_ng[3], x_ng[0, 0] = 0, high
    return x_ng


def batches(x_ng, n_batches=0, dtype=torch.float64):
    """The same cells twice: as sparse rows, and dense."""
    dense = torch.from_numpy(x_ng).to(dtype)
    batch_nb = torch.eye(max(n_batches, 1), dtype=dtype)[torch.arange(len(x_ng)) % max(n_batches, 1)]
    plain = cells(dense, batch_nb[:, :n_batches])
    return Minibatch(sparse_rows(x_ng), plain.library_size_n1, plain.batch_nb, plain.covariates_nc), plain


def made(name, dispersion="gene", dtype=torch.float64, n_genes=G):
    """A likelihood with random weights and two batches, and a hidden layer to go with it."""
    config = LikelihoodConfig(likelihood=name, dispersion=dispersion, variance=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        likelihood = LIKELIHOODS[name](H, n_genes, 2, config).to(dtype)
        for weight in likelihood.parameters():
            torch.nn.init.normal_(weight)
    return likelihood, torch.randn((N, H), generator=generator(), dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("high", [0, 30, 100_000])
@pytest.mark.parametrize("n_genes", [G, 2 * zero_inflated_loops.PIECE + 77])
@pytest.mark.parametrize(("name", "dispersion"), PATHS)
def test_sparse_cells_have_the_likelihood_and_slopes_of_dense_ones(name, dispersion, n_genes, high, even):
    """Of few genes and of several pieces and blocks of them."""
    likelihood, h_nh = made(name, dispersion, n_genes=n_genes)
    assert n_genes in (G, counts.GENES + 77), "there is a second block of the table too"
    weight_n = torch.ones(N, dtype=torch.float64) if even else torch.rand(N, generator=generator()).double()
    found = []
    for batch in batches(drawn(high=high, n_genes=n_genes), 2):
        nll_n = likelihood.nll(h_nh, batch)
        found.append(
            (nll_n, *torch.autograd.grad((weight_n * nll_n).sum(), [h_nh, *likelihood.parameters()]))
        )
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "dispersion"), PATHS)
def test_in_single_precision_too(name, dispersion):
    likelihood, h_nh = made(name, dispersion, torch.float32)
    found = []
    for batch in batches(drawn(high=50), 2, torch.float32):
        nll_n = likelihood.nll(h_nh, batch)
        found.append((nll_n, *torch.autograd.grad(nll_n.mean(), [h_nh, *likelihood.parameters()])))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=2e-5, atol=2e-5 * float(plain.detach().abs().max()))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_no_likelihood_makes_sparse_cells_dense(name):
    """If one did, torch would subtract, square and sum n × g numbers while the other threads are kept awake for nothing."""
    likelihood, h_nh = made(name, dtype=torch.float32)
    sparse, dense = batches(drawn(), 2, torch.float32)
    assert torch.isfinite(likelihood.nll(h_nh, sparse)).all()
    assert "x_ng" not in vars(sparse)
    assert sparse.x_ng.equal(dense.x_ng)
    assert "x_ng" in vars(sparse), "that is how it would be seen"


@pytest.mark.parametrize(("name", "dispersion"), PATHS)
def test_slopes_are_those_found_numerically(name, dispersion):
    likelihood, h_nh = made(name, dispersion)
    batch = batches(drawn()[:6], 2)[0]
    names = [name for name, _ in likelihood.named_parameters()]

    def nll(h_nh, *weights):
        return torch.func.functional_call(
            Nll(likelihood),
            {f"likelihood.{n}": w for n, w in zip(names, weights, strict=True)},
            (h_nh, batch),
        )

    assert torch.autograd.gradcheck(nll, (h_nh[:6], *likelihood.parameters()))


class Nll(torch.nn.Module):
    def __init__(self, likelihood):
        super().__init__()
        self.likelihood = likelihood

    def forward(self, h_nh, batch):
        return self.likelihood.nll(h_nh, batch)


@pytest.mark.parametrize(
    ("n_hidden", "genes", "sums", "times"),
    [
        (4, 1024, 2**23, 1),
        (4, 7, 2**23, 1),
        (4, 7, 40, 1),
        (100, 7, 2**23, 1),
        (32, 7, 2**23, 1),
        (40, 1024, 2**23, 5),
        (59, 100, 2**23, 5),
    ],
)
def test_squared_distance_either_way_is_the_plain_one(n_hidden, genes, sums, times, monkeypatch):
    """In one block of genes and in several, as many as their sums may take; with units for whole pieces of a product and for none."""
    monkeypatch.setattr(linear, "WEIGHTS", genes * n_hidden)
    monkeypatch.setattr(squares, "MOST_SUMS", sums)
    assert pays(N, 4)
    assert not pays(N, 100)
    x_ng = np.tile(drawn(), times)
    head = torch.nn.Linear(n_hidden, times * G, dtype=torch.float64)
    h_nh = torch.randn((N, n_hidden), generator=generator(), dtype=torch.float64, requires_grad=True)
    weights = [h_nh, *head.parameters()]
    fast_n = squared_distance(h_nh, head, sparse_rows(x_ng))
    plain_n = (head(h_nh) - torch.from_numpy(x_ng)).square().sum(dim=1)
    torch.testing.assert_close(fast_n, plain_n, rtol=1e-10, atol=1e-10)
    weight_n = torch.rand(N, generator=generator()).double()
    for fast, plain in zip(
        *(torch.autograd.grad((weight_n * n).sum(), weights) for n in (fast_n, plain_n)), strict=True
    ):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("genes", "n_hidden"), [(1024, H), (7, H), (1, 16), (1024, 200), (7, 85)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_layer_over_sparse_cells_is_the_dense_one(dtype, genes, n_hidden, monkeypatch):
    """With hidden units for whole vectors, for some of them, and for none."""
    monkeypatch.setattr(linear, "WEIGHTS", genes * n_hidden)
    x_ng, layer = drawn(), torch.nn.Linear(G, n_hidden, dtype=dtype)
    fast_nh = sparse_linear(sparse_rows(x_ng), layer.weight, layer.bias)
    plain_nh = layer(torch.from_numpy(x_ng).to(dtype))
    torch.testing.assert_close(fast_nh, plain_nh)
    slope_nh = torch.randn((N, n_hidden), generator=generator(), dtype=dtype)
    for fast, plain in zip(
        *(torch.autograd.grad(out, layer.parameters(), slope_nh) for out in (fast_nh, plain_nh)), strict=True
    ):
        torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("moved", [[0, 3, 8], [39], list(range(N))], ids=len)
def test_what_comes_to_some_sparse_cells_passes_through_the_layer_too(moved, dtype):
    x_ng = drawn()
    layer = kernels.by_input(torch.nn.Linear(G, H)).to(dtype)
    index_m = torch.tensor(moved, dtype=torch.int64)
    shift_mg = torch.randn((len(moved), G), generator=generator(), dtype=dtype)
    given = SparseRowsPlusDelta(sparse_rows(x_ng), index_m, shift_mg)
    moved_ng = torch.from_numpy(x_ng).to(dtype)
    moved_ng[index_m] += shift_mg
    outs = sparse_linear(given, layer.weight, layer.bias), layer(moved_ng)
    torch.testing.assert_close(*outs)
    slope_nh = torch.randn((N, H), generator=generator(1), dtype=dtype)
    for fast, plain in zip(
        *(torch.autograd.grad(out, layer.parameters(), slope_nh) for out in outs), strict=True
    ):
        torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-5), (torch.float64, 1e-8)])
@pytest.mark.parametrize(("name", "dispersion"), PATHS)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_expected_expression_of_sparse_cells_is_that_of_the_mean(name, dispersion, scale, dtype, near):
    likelihood, h_nh = made(name, dispersion, dtype)
    sparse, dense = batches(drawn(), 2, dtype)
    with torch.no_grad():
        found_ng = likelihood.expression(scale * h_nh, sparse, 1e4)
        assert likelihood.expression(scale * h_nh, dense, 1e4) is None
        assert (found_ng is not None) == likelihood.counts
        if found_ng is None:
            return
        plain_ng = torch.log1p(
            likelihood.distribution(scale * h_nh, dense).mean * (1e4 / dense.library_size_n1)
        )
    torch.testing.assert_close(found_ng, plain_ng, rtol=near, atol=near * float(plain_ng.abs().max()))


@pytest.mark.parametrize("name", ["nb", "zinb", "gaussian"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(name, bad):
    likelihood, h_nh = made(name, dtype=torch.float32)
    with torch.no_grad():
        h_nh[5, 0] = bad
    nll_n = likelihood.nll(h_nh, batches(drawn(), 2, torch.float32)[0])
    assert not nll_n[5].isfinite()
    assert not torch.autograd.grad(nll_n.mean(), h_nh)[0].isfinite().all()
    if name != "gaussian":  # the expanded square mixes cells in its slopes only
        assert nll_n[:5].isfinite().all()


@pytest.mark.parametrize("name", ["nb", "zinb", "gaussian"])
def test_blocks_are_the_same_with_any_number_of_threads(name, monkeypatch):
    """So are the sums over blocks, to the bit."""
    likelihood, h_nh = made(name, dtype=torch.float32)
    batch, found = batches(np.tile(drawn(), (5, 1)), 2, torch.float32)[0], []
    for n in (1, 2, 7):
        monkeypatch.setattr(team, "n_threads", lambda n=n: n)
        nll_n = likelihood.nll(h_nh.repeat(5, 1), batch)
        found.append((nll_n, *torch.autograd.grad(nll_n.mean(), likelihood.parameters())))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("n_cells", [0, 1, 33, 300, 1000])
def test_sparse_cells_are_multiplied_to_the_same_bits_with_any_number_of_threads(n_cells, monkeypatch):
    """Each thread takes as many cells as any other, so the blocks depend on their number."""
    x_ng = np.resize(drawn(), (n_cells, G))
    weight_gh, found, blocks = torch.randn((G, 128), generator=generator()), [], set()
    for n in (1, 2, 7):
        monkeypatch.setattr(team, "n_threads", lambda n=n: n)
        found.append(rows_times(sparse_rows(x_ng), weight_gh))
        blocks.add(cells_of_block(n_cells))
    assert len(blocks) > 1 or n_cells < 40
    torch.testing.assert_close(found[0], torch.from_numpy(x_ng) @ weight_gh)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_twenty_epochs_lose_the_same_on_sparse_and_on_dense_cells(kind, monkeypatch):
    curves = []
    for share in (1.0, -1.0):
        monkeypatch.setattr(loader, "SPARSE_SHARE", share)
        settings = settings_of(kind, epochs=20, patience=0)
        model = settings.fit(simulated_cells(), layer=layer_of(kind), silent=True)
        curves.append(model.history["loss"].to_numpy())
    # an effect |v| that lies at 0 jumps from side to side with Adam's momentum, and a rounding decides which: by and by the curves part
    jumps = settings.effects == "nonnegative"
    np.testing.assert_allclose(curves[0][:4], curves[1][:4], rtol=1e-4)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-2 if jumps else 1e-4)
    assert np.abs(curves[0] - curves[1]).max() > 0  # two paths, not one


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_twenty_epochs_of_cells_shown_in_other_batches_lose_the_same_too(likelihood, monkeypatch):
    adata, curves, kind = simulated_cells(), [], ("beta-vae", likelihood)
    adata.obs["donor"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(adata.n_obs) % 3])
    for share in (1.0, -1.0):
        monkeypatch.setattr(loader, "SPARSE_SHARE", share)
        settings = settings_of(
            kind, epochs=20, patience=0, translate=True, standardize_input=False, input_dropout=0.0
        )
        model = settings.fit(adata, layer=layer_of(kind), batch_key="donor", silent=True)
        curves.append(model.history["loss"].to_numpy())
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    assert np.abs(curves[0] - curves[1]).max() > 0  # two paths, not one


@njit
def there_and_back(x_g, bits_g, bias_g, scratch_g):
    float_bits.closed(x_g, bits_g)
    return float_bits.opened(bits_g, bias_g, scratch_g)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_threads_do_not_wait_awake_for_long_unless_the_user_says_so(given, expected):
    ask = "import os, sparcell; print(os.environ.get('GOMP_SPINCOUNT'))"
    others = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = subprocess.run(
        [sys.executable, "-c", ask], env=others | given, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == expected


def test_rows_in_bfloat16_are_rounded_as_torch_rounds():
    draw = np.random.default_rng(0)
    x_g = (draw.normal(size=20_000) * 10.0 ** draw.uniform(-30, 30, 20_000)).astype(np.float32)
    halfway_g = (x_g.view(np.int32) & -(2**16) | 2**15).view(np.float32)  # as near to one as to the other
    x_g = np.concatenate([x_g, halfway_g, np.float32([0, -0.0, np.inf, -np.inf])])
    bits_g = np.empty(len(x_g), np.int16)
    again_g = there_and_back(x_g, bits_g, np.zeros_like(x_g), np.empty_like(x_g))
    rounded_g = torch.from_numpy(x_g).bfloat16()
    np.testing.assert_array_equal(bits_g, rounded_g.view(torch.int16).numpy())
    np.testing.assert_array_equal(again_g, rounded_g.float().numpy())


@pytest.mark.parametrize(("n_heads", "n_dispersions"), [(1, 0), (1, 1), (2, 1)])
def test_bfloat16_rounds_the_products_and_nothing_else(n_heads, n_dispersions, monkeypatch):
    """The same to the bit as float32 of logits rounded beforehand; the slopes are rounded afterwards."""
    draw = generator()
    x_ng = sparse.csr_matrix(np.random.default_rng(0).poisson(0.4, (N, G)).astype(np.float32))
    h_nh, log_r_bg = torch.randn(N, H, generator=draw), torch.randn(n_dispersions, G, generator=draw)
    heads = [
        part
        for _ in range(n_heads)
        for part in (torch.randn(G, H, generator=draw), torch.randn(G, generator=draw))
    ]
    given = counts._Given(sparse_rows(x_ng), torch.full((N, 1), 12.0), None, torch.float32)
    rounded = counts._evaluate(given, True, torch.ones(N), h_nh, log_r_bg, tuple(heads))
    monkeypatch.setattr(
        counts, "product", lambda a, b, bias: (a.bfloat16() @ b.bfloat16().t()).float() + bias
    )
    expected = counts._evaluate(given, False, torch.ones(N), h_nh, log_r_bg, tuple(heads))
    assert torch.equal(rounded[0], expected[0])
    for slope_ng, expected_ng in zip(rounded[1], expected[1], strict=True):
        assert slope_ng.dtype == torch.bfloat16
        assert torch.equal(slope_ng, expected_ng.bfloat16())
    for sum_, expected_sum in zip(rounded[2], expected[2], strict=True):
        assert torch.equal(sum_, expected_sum)


def test_a_large_hidden_layer_is_torch_s():
    """Values and slopes; in float64, without gradients and where the layer is small it is torch's own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Linear(320, 210)
    assert 128 * layer.weight.numel() >= MANY
    x_ni = torch.randn(128, 320, generator=generator(), requires_grad=True)
    weight_no = torch.randn(128, 210, generator=generator())
    found = []
    for function in (layer, lambda x: torch.nn.functional.linear(x, layer.weight, layer.bias)):
        out_no = function(x_ni)
        found.append(
            (out_no, *torch.autograd.grad((out_no * weight_no).sum(), (x_ni, layer.weight, layer.bias)))
        )
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    if ONEDNN:
        assert "Dense" in type(layer(x_ni).grad_fn).__name__
    assert "Dense" not in type(layer(x_ni[:8]).grad_fn).__name__


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "poisson"])
def test_bfloat16_changes_the_loss_a_little(likelihood, monkeypatch):
    monkeypatch.setattr(kernels, "knows_bfloat16", lambda device: True)  # slow where it is not, but the same
    curves = [
        settings_of(("beta-vae", likelihood), epochs=5, precision=precision)
        .fit(simulated_cells(), layer=layer_of(("beta-vae", likelihood)), silent=True)
        .history["loss"]
        .to_numpy()
        for precision in ("float32", "bfloat16")
    ]
    np.testing.assert_allclose(curves[0], curves[1], rtol=2e-2)
    if likelihood != "gaussian":  # whose square is expanded on so few genes, in float32
        assert np.abs(curves[0] - curves[1]).max() > 0
