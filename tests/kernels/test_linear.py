"""Linear layers over sparse cells and the expanded square, against dense ones.

Suffixes: n cells, m some of them, g genes, h hidden units.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.cells import generator, sparse_rows
from helpers.kernel_cells import G, H, N, random_counts
from sparcell import kernels
from sparcell.kernels import linear, sparse_linear, squared_distance, squares
from sparcell.kernels.linear import cells_of_block, csr_matmul
from sparcell.protocols import SparseRowsPlusDelta


@pytest.mark.parametrize(
    ("n_hidden", "genes", "sums", "times"),
    [
        (4, 1024, 2**23, 1),
        (4, 7, 2**23, 1),
        (4, 7, 40, 1),
        (5, 7, 2**23, 1),
        (1, 1024, 2**23, 1),
        (32, 7, 2**23, 1),
        (40, 1024, 2**23, 5),
        (59, 100, 2**23, 5),
    ],
)
def test_the_expanded_square_is_the_plain_one(n_hidden, genes, sums, times, monkeypatch):
    """One block of genes and several, as many as their sums may take; with even and odd numbers of units and genes."""
    monkeypatch.setattr(linear, "BLOCK_WEIGHTS", genes * n_hidden)
    monkeypatch.setattr(squares, "MAX_SUMS", sums)
    x_ng = np.tile(random_counts(), times)
    head = torch.nn.Linear(n_hidden, times * G, dtype=torch.float64)
    h_nh = torch.randn((N, n_hidden), generator=generator(), dtype=torch.float64, requires_grad=True)
    weights = [h_nh, *head.parameters()]
    fast_n = squared_distance(h_nh, head, sparse_rows(x_ng))
    plain_n = (head(h_nh) - torch.from_numpy(x_ng)).square().sum(dim=1)
    torch.testing.assert_close(fast_n, plain_n, rtol=1e-10, atol=1e-10)
    weight_n = torch.rand(N, generator=generator()).double()
    grads = (torch.autograd.grad((weight_n * n).sum(), weights) for n in (fast_n, plain_n))
    for fast, plain in zip(*grads, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10)


def test_a_wide_head_over_few_cells_is_left_to_the_plain_formula():
    h_nh, rows = torch.zeros((N, 3 * N)), sparse_rows(random_counts())
    assert squared_distance(h_nh, torch.nn.Linear(3 * N, G), rows) is None


@pytest.mark.parametrize(("genes", "n_hidden"), [(1024, H), (7, H), (1, 16), (1024, 200), (7, 85)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_layer_over_sparse_cells_is_the_dense_one(dtype, genes, n_hidden, monkeypatch):
    monkeypatch.setattr(linear, "BLOCK_WEIGHTS", genes * n_hidden)
    x_ng, layer = random_counts(), torch.nn.Linear(G, n_hidden, dtype=dtype)
    fast_nh = sparse_linear(sparse_rows(x_ng), layer.weight, layer.bias)
    plain_nh = layer(torch.from_numpy(x_ng).to(dtype))
    torch.testing.assert_close(fast_nh, plain_nh)
    grad_nh = torch.randn((N, n_hidden), generator=generator(), dtype=dtype)
    grads = (torch.autograd.grad(out, layer.parameters(), grad_nh) for out in (fast_nh, plain_nh))
    for fast, plain in zip(*grads, strict=True):
        torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("moved", [[0, 3, 8], [39], list(range(N))], ids=len)
def test_dense_differences_of_some_cells_pass_through_the_layer_too(moved, dtype):
    x_ng = random_counts()
    layer = kernels.input_major(torch.nn.Linear(G, H)).to(dtype)
    index_m = torch.tensor(moved, dtype=torch.int64)
    delta_mg = torch.randn((len(moved), G), generator=generator(), dtype=dtype)
    rows = SparseRowsPlusDelta(sparse_rows(x_ng), index_m, delta_mg)
    moved_ng = torch.from_numpy(x_ng).to(dtype)
    moved_ng[index_m] += delta_mg
    outs = sparse_linear(rows, layer.weight, layer.bias), layer(moved_ng)
    torch.testing.assert_close(*outs)
    grad_nh = torch.randn((N, H), generator=generator(1), dtype=dtype)
    grads = (torch.autograd.grad(out, layer.parameters(), grad_nh) for out in outs)
    for fast, plain in zip(*grads, strict=True):
        torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize("n_cells", [0, 1, 33, 300, 1000])
def test_sparse_cells_are_multiplied_to_the_same_bits_with_any_number_of_threads(n_cells, monkeypatch):
    """Each thread takes as many cells as any other, so the blocks depend on their number."""
    x_ng = np.resize(random_counts(), (n_cells, G))
    weight_gh, products, blocks = torch.randn((G, 128), generator=generator()), [], set()
    for n in (1, 2, 7):
        monkeypatch.setattr(linear, "n_threads", lambda n=n: n)
        products.append(csr_matmul(sparse_rows(x_ng), weight_gh))
        blocks.add(cells_of_block(n_cells))
    assert len(blocks) > 1 or n_cells < 40
    torch.testing.assert_close(products[0], torch.from_numpy(x_ng) @ weight_gh)
    assert all(torch.equal(products[0], other) for other in products[1:])
