"""Quality control against values computed by hand and against plain loops."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers.three_groups import three_groups
from sparcell import pp
from sparcell.errors import InputError


@pytest.mark.filterwarnings("ignore:Quality control removed")
def test_quality_control_by_hand():
    x_ng = np.array(
        [  # g0 g1 g2 mt-a rare
            [1, 1, 1, 1, 0],  # 4 genes, 25 % mitochondrial
            [2, 1, 0, 0, 0],  # 2 genes
            [9, 9, 1, 1, 0],  # 4 genes, 5 %
            [1, 0, 0, 0, 5],  # 1 gene that stays
            [3, 1, 1, 0, 0],  # 3 genes
            [0, 0, 0, 0, 0],
        ]
    )
    adata = ad.AnnData(sparse.csr_matrix(x_ng, dtype=np.float32))
    adata.var_names = ["g0", "g1", "g2", "mt-a", "rare"]
    qc = pp.quality_control(adata, min_cells=2, min_genes=1, max_genes=4, max_pct_mito=100)
    assert qc["n_genes"].tolist() == [4, 2, 4, 1, 3, 0]
    assert qc["total_counts"].tolist() == [4, 3, 20, 1, 5, 0]
    assert qc["pct_mito"].tolist() == [25, 0, 5, 0, 0, 0]
    assert qc["kept"].tolist() == [False, True, False, False, True, False]
    assert adata.var_names.tolist() == ["g0", "g1", "g2", "mt-a"]
    np.testing.assert_array_equal(adata.X.toarray(), x_ng[[1, 4], :4])


@pytest.mark.filterwarnings("ignore:Quality control removed")
@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=2, max_size=8),
    min_cells=st.integers(0, 3),
    min_genes=st.integers(0, 3),
    max_genes=st.one_of(st.none(), st.integers(2, 6)),
    max_pct=st.one_of(st.none(), st.floats(1, 100, exclude_max=True)),
)
def test_quality_control_against_plain_loops(values, min_cells, min_genes, max_genes, max_pct):
    x_ng = np.array(values, dtype=np.float32)
    adata = ad.AnnData(sparse.csr_matrix(x_ng))
    adata.var_names = ["a", "b", "c", "MT-d", "Mt-e"]
    genes = [j for j in range(5) if sum(row[j] > 0 for row in values) >= min_cells]
    cells = []
    for i, row in enumerate(values):
        n_genes, total = sum(row[j] > 0 for j in genes), sum(row[j] for j in genes)
        pct_mito = 100 * sum(row[j] for j in genes if j >= 3) / total if total else 0
        few = n_genes > min_genes and (max_genes is None or n_genes < max_genes)
        if few and (max_pct is None or pct_mito < max_pct):
            cells.append(i)
    limits = {"min_genes": min_genes, "max_genes": max_genes or 0, "max_pct_mito": max_pct or 100}
    limits["min_cells"] = min_cells
    if not genes or not cells:
        with pytest.raises(InputError, match=r"expected|Expected"):
            pp.quality_control(adata, **limits)
        np.testing.assert_array_equal(adata.X.toarray(), x_ng)
        return
    qc = pp.quality_control(adata, **limits)
    assert np.flatnonzero(qc["kept"]).tolist() == cells
    np.testing.assert_array_equal(adata.X.toarray(), x_ng[np.ix_(cells, genes)])


def test_nothing_left_says_which_limit_and_what_would_do():
    adata = three_groups()
    with pytest.raises(
        InputError,
        match=r"min_genes=200 removes 120.*keep most cells: min_genes=(\d+) \(in a shell: --min-genes \1\)",
    ) as caught:
        pp.quality_control(adata, min_genes=200, max_pct_mito=100)
    assert adata.shape == (120, 60)
    advice = int(str(caught.value).split("min_genes=")[-1].split(" ")[0])
    assert pp.quality_control(adata, min_genes=advice, max_pct_mito=100)["kept"].mean() > 0.9


def test_many_cells_removed_is_a_warning():
    with pytest.warns(UserWarning, match=r"removed \d+ of 120 cells: max_pct_mito=2 removes"):
        pp.quality_control(three_groups(), min_genes=0, max_pct_mito=2)


def shallow_and_deep():
    """Two batches of 200 cells with some 20 and 60 of 100 genes, 4 outliers each; all counts are 1."""
    generator = np.random.default_rng(0)
    sizes = [*generator.integers(16, 25, 196), 1, 2, 90, 95, *generator.integers(55, 66, 196), 2, 3, 100, 6]
    x_ng = np.zeros((400, 100), dtype=np.float32)
    for i, size in enumerate(sizes):
        x_ng[i, generator.permutation(100)[:size]] = 1
    adata = ad.AnnData(sparse.csr_matrix(x_ng))
    adata.obs["batch"] = ["shallow"] * 200 + ["deep"] * 200
    return adata, np.array(sizes)


def test_limits_from_the_data_are_five_mads_of_log_genes_in_each_batch():
    adata, size_n = shallow_and_deep()
    qc = pp.quality_control(adata.copy(), batch_key="batch")
    for batch, (low, high) in {"shallow": (10, 40), "deep": (40, 90)}.items():
        of_n = (adata.obs["batch"] == batch).to_numpy()
        assert (qc["kept"][of_n] == ((size_n > low) & (size_n < high))[of_n]).all()
        middle = np.median(np.log1p(size_n[of_n]))
        mad = 1.4826 * np.median(np.abs(np.log1p(size_n[of_n]) - middle))
        lowest = np.ceil(np.expm1(middle - 5 * mad)) - 1
        assert lowest in qc.attrs["limits"]["min_genes"]
    together = pp.quality_control(adata.copy())  # one wide distribution
    assert together["kept"].sum() > qc["kept"].sum()


def test_the_limit_of_mitochondrial_counts_is_three_mads_above_the_median_and_at_least_8():
    x_ng = np.ones((100, 50), dtype=np.float32)
    x_ng[:, 0] = np.r_[np.linspace(1, 3, 98), 12, 60].round()
    for scale in (1, 20):
        adata = ad.AnnData(sparse.csr_matrix(np.c_[x_ng[:, :1] * scale, x_ng[:, 1:]]))
        adata.var_names = ["MT-1", *(f"g{j}" for j in range(49))]
        qc = pp.quality_control(adata)
        middle = qc["pct_mito"].median()
        mad = 1.4826 * (qc["pct_mito"] - middle).abs().median()
        limit = max(8.0, middle + 3 * mad)
        assert qc.attrs["limits"]["max_pct_mito"] == pytest.approx((limit, limit))
        assert (qc["kept"] == (qc["pct_mito"] < limit)).all()


def test_the_limits_and_what_each_removes_are_logged(caplog):
    adata, _ = shallow_and_deep()
    with caplog.at_level("INFO", logger="sparcell"):
        qc = pp.quality_control(adata, batch_key="batch", max_genes=85, max_pct_mito=100)
    (line,) = [message for message in caplog.messages if "quality control" in message]
    assert f"keeps {qc['kept'].sum()} of 400 cells: " in line
    assert "max_genes 85 (set) removes 3" in line
    assert "(from the data) removes 5" in line
    assert "max_pct_mito" not in line


def test_a_limit_that_no_cell_can_exceed_is_none(caplog):
    adata, _ = shallow_and_deep()
    with caplog.at_level("INFO", logger="sparcell"):
        qc = pp.quality_control(
            adata
        )  # both depths: five MADs above the median are more genes than there are
    assert qc.attrs["limits"]["max_genes"] == (np.inf, np.inf)
    assert qc.attrs["limits"]["max_pct_mito"] == (np.inf, np.inf)
    assert "max_genes none (from the data);" in caplog.text


def test_a_view_can_be_filtered():
    adata = three_groups()
    view = adata[:60]
    pp.quality_control(view, min_genes=0, max_pct_mito=100)
    assert view.n_obs == 60
    assert adata.n_obs == 120
