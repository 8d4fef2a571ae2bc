"""Cases of `test_triton.py`, which runs them in processes of their own: interpreted ones on the CPU, compiled ones as far as a binary.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import triton
from scipy import special
from triton import language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from helpers.cells import cells, generator
from sparcell.config.model import LikelihoodConfig
from sparcell.kernels import count_gpu, count_tiles, counts
from sparcell.likelihoods import LIKELIHOODS

pytestmark = [
    # a GPU divides by 0 without a word, and the lanes in which that happens are not used
    pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"),
    # Triton's own compiler, in Python 3.13
    pytest.mark.filterwarnings("ignore:AnnAssign.__init__ missing 1 required:DeprecationWarning"),
]

H, CPU = 5, torch.device("cpu")
PATHS = [("nb", "gene"), ("zinb", "gene"), ("nb", "gene-batch"), ("zinb", "gene-batch")]
SHAPES = [(40, 30), (16, 64), (3, 1100), (33, 129), (1, 1)]
"""Less than a tile, one tile, more genes than are read at once, a little more than two tiles, and as small as can be."""


@triton.jit
def _each(x, first, second, WHICH: tl.constexpr):
    at = tl.arange(0, 64)
    z = tl.load(x + at)
    if WHICH == "log1p":
        tl.store(first + at, count_tiles.log1p(z))
    else:
        beyond, grad = count_tiles.gamma_terms(z)
        tl.store(first + at, beyond)
        tl.store(second + at, grad)


def each(which, x):
    found = torch.empty((2, 64))
    _each[(1,)](torch.from_numpy(x), found[0], found[1], which)
    return found.double().numpy()


def test_interpreted_log1p_keeps_the_digits_of_small_and_large_values():
    t = np.geomspace(1e-30, 1e30, 64).astype(np.float32)
    np.testing.assert_allclose(each("log1p", t)[0], np.log1p(t.astype(np.float64)), rtol=4e-7)
    assert each("log1p", np.zeros(64, np.float32))[0].max() == 0


def test_interpreted_gamma_terms_are_scipy_s():
    z = np.geomspace(1e-4, 1e6, 64).astype(np.float32)
    exact = z.astype(np.float64)
    beyond = special.gammaln(exact) - (exact - 0.5) * np.log(exact) + exact - 0.5 * np.log(2 * np.pi)
    found = each("gamma", z)
    np.testing.assert_allclose(found[0], beyond, atol=1e-8 + 4e-6, rtol=1e-6)
    np.testing.assert_allclose(found[1], special.digamma(exact) - np.log(exact), rtol=2e-6, atol=1e-6)


def made(name, dispersion, shape, spread=1.0, dtype=torch.float64):
    """A likelihood with random weights, cells of two batches with counts from none to 3,000, and a hidden layer; of all a second one."""
    n_cells, n_genes = shape
    draw = np.random.default_rng(0)
    x_ng = draw.poisson(draw.gamma(0.4, 2.0, shape))
    x_ng[0, 0], x_ng[-1] = 3000, 0
    likelihood = LIKELIHOODS[name](H, n_genes, 2, LikelihoodConfig(likelihood=name, dispersion=dispersion))
    noise = generator(1)
    for weight in likelihood.double().parameters():
        torch.nn.init.normal_(weight, std=spread, generator=noise)
    likelihood.to(dtype)
    batch_nb = torch.eye(2, dtype=dtype)[torch.arange(n_cells) % 2]
    h_nh = torch.randn((n_cells, H), generator=generator(), dtype=torch.float64).to(dtype)
    return likelihood, h_nh.requires_grad_(), cells(torch.from_numpy(x_ng).to(dtype), batch_nb)


def on_gpu(likelihood, h_nh, batch):
    """What the likelihood does on a GPU."""
    several = len(likelihood.log_r) > 1
    heads = (likelihood.head, likelihood.drop) if hasattr(likelihood, "drop") else (likelihood.head,)
    log_r_qg = batch.batch_nb @ likelihood.log_r if several else likelihood.log_r
    return count_gpu.negative_binomial(h_nh, heads, log_r_qg, batch.x_ng, batch.library_size_n1)


def compare(plain, fused):
    """Compare loss and gradients of cells of uneven weight, in double precision and by the kernels in single precision."""
    found = []
    for (likelihood, h_nh, batch), formula in ((plain, lambda own, h, b: own.nll(h, b)), (fused, on_gpu)):
        nll_n = formula(likelihood, h_nh, batch)
        weight_n = torch.rand(len(nll_n), generator=generator(2)).to(nll_n.dtype)
        weighed = (weight_n * nll_n).sum()
        found.append((nll_n, *torch.autograd.grad(weighed, [h_nh, *likelihood.parameters()])))
    for exact, single in zip(*found, strict=True):
        largest = float(exact.detach().abs().max())
        torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=3e-6 * largest)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "dispersion"), PATHS)
def test_interpreted_kernels_have_the_loss_and_gradients_of_the_plain_formula(name, dispersion, shape):
    compare(made(name, dispersion, shape), made(name, dispersion, shape, dtype=torch.float32))


@pytest.mark.parametrize(("name", "dispersion"), PATHS[:2])
@pytest.mark.parametrize("spread", [0.01, 4.0])
def test_interpreted_kernels_bear_large_and_tiny_means_and_dispersions(name, dispersion, spread):
    compare(made(name, dispersion, (40, 30), spread), made(name, dispersion, (40, 30), spread, torch.float32))


def test_interpreted_kernels_agree_with_their_own_plain_formula(monkeypatch, caplog):
    """As a GPU is asked before the kernels are used on it; where they are wrong, or do not run, they are not used, and that is told."""
    count_gpu.passes_self_test.cache_clear()
    assert count_gpu.passes_self_test(CPU)
    assert counts.gpu_kernels(CPU) is count_gpu
    right = count_gpu.negative_binomial

    def nan_in_a_gradient(h_nh, heads, log_r_qg, *given):
        return right(h_nh, heads, log_r_qg, *given) + 0 * torch.sqrt(0 * log_r_qg[0, 0])

    for wrong in (lambda *given: 1.01 * right(*given), nan_in_a_gradient, None):
        monkeypatch.setattr(count_gpu, "negative_binomial", wrong)
        count_gpu.passes_self_test.cache_clear()
        counts.gpu_kernels.cache_clear()
        with caplog.at_level(logging.WARNING, logger="sparcell"):
            assert not count_gpu.passes_self_test(CPU)
            assert counts.gpu_kernels(CPU) is None
        assert "plain formulas are used" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_interpreted_plain_formula_is_the_likelihood_s(name):
    likelihood, h_nh, batch = made(name, "gene", (40, 30))
    heads = (likelihood.head, likelihood.drop) if hasattr(likelihood, "drop") else (likelihood.head,)
    plain_n = count_gpu.reference(h_nh, heads, likelihood.log_r, batch.x_ng, batch.library_size_n1)
    torch.testing.assert_close(plain_n, likelihood.nll(h_nh, batch))


def test_interpreted_kernels_keep_what_is_not_finite_in_its_cell():
    likelihood, h_nh, batch = made("nb", "gene", (40, 30), dtype=torch.float32)
    with torch.no_grad():
        h_nh[5, 0] = torch.nan
    nll_n = on_gpu(likelihood, h_nh, batch)
    assert nll_n[5].isnan()
    assert nll_n[torch.arange(40) != 5].isfinite().all()


def test_interpreted_kernels_round_their_products_under_autocast():
    likelihood, h_nh, batch = made("nb", "gene", (40, 30), dtype=torch.float32)
    exact_n = on_gpu(likelihood, h_nh, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded_n = on_gpu(likelihood, h_nh, batch)
    torch.testing.assert_close(rounded_n, exact_n, rtol=2e-2, atol=0)
    assert not torch.equal(rounded_n, exact_n)


FIVE, TWO = ("*fp32",) * 5, ("*fp32",) * 2
SIGNATURES = {
    "log_sum_exp": {"logit_ng": "*fp32", "log_sum_n": "*fp32", "n_genes": "i32"},
    "losses": {"inputs": FIVE, "outputs": TWO, "shape": ("i32", "i32"), "step": "i32", "DROPS": "constexpr"},
    "grads": {
        "inputs": FIVE,
        "weighing": TWO,
        "grad_r": "*fp32",
        "shape": ("i32", "i32"),
        "step": "i32",
        "DROPS": "constexpr",
    },
}


@pytest.mark.parametrize("capability", [75, 90, 100])
@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("name", SIGNATURES)
def test_compiled_kernels_are_binaries_for_gpus(name, drops, capability, monkeypatch, tmp_path):
    """Which the interpreter would not tell: it runs what the compiler refuses."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"DROPS": drops} if "DROPS" in SIGNATURES[name] else {}
    source = ASTSource(getattr(count_tiles, name), SIGNATURES[name], constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert len(made.asm["cubin"]) > 1000
    assert "lg2.approx" not in made.asm["ptx"] or name == "log_sum_exp"  # which loses the digits of log 1.001
