"""Simulated donors: differences and response are those that were asked for, and nothing else changes.

Suffixes: n cells, g genes, b donors.
"""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from scipy.stats import kstest, norm

from sparcell import datasets
from sparcell.errors import InputError


@pytest.fixture(scope="module")
def alike():
    """6,000 equal cells: 50 genes of 200 counts each, so that a mean over a donor's cells is known to a percent."""
    adata = AnnData(sparse.csr_matrix(np.full((6000, 50), 200.0, dtype=np.float32)))
    adata.obs["half"] = np.arange(6000) < 3000
    return adata


def mean_bg(adata):
    donors = adata.obs["donor"]
    means = [adata[donors == name].X.mean(axis=0) for name in donors.cat.categories]
    return np.asarray(np.vstack(means))


def test_donors_differ_by_the_factors_that_varm_holds(alike):
    donors = datasets.simulate_donors(alike, 3, donor_sd=0.4, seed=1)
    expected_gb = donors.varm["donor_effects"]
    measured_bg = np.log(mean_bg(donors))
    assert measured_bg - measured_bg[:1] == pytest.approx((expected_gb - expected_gb[:, :1]).T, abs=0.01)
    # The donor with the highest effect on a gene keeps all counts.
    assert mean_bg(donors).max(axis=0) == pytest.approx(np.full(50, 200.0), rel=1e-4)
    many = datasets.simulate_donors(alike, 40, donor_sd=0.4, seed=1)
    assert kstest(many.varm["donor_effects"].ravel(), norm(0, 0.4).cdf).pvalue > 0.001


def test_counts_of_a_donor_are_binomial(alike):
    donors = datasets.simulate_donors(alike, 2, seed=2)
    rows_g = donors[donors.obs["donor"] == "donor1"].X.toarray()
    keep_g = rows_g.mean(axis=0) / 200
    assert rows_g.var(axis=0) == pytest.approx(200 * keep_g * (1 - keep_g), rel=0.12, abs=1e-9)


def test_treatment_raises_the_named_genes_in_the_cells_that_respond_and_nothing_else(alike):
    options = {"response_genes": ["3", "8"], "responding": alike.obs["half"].to_numpy(), "response": 12.0}
    donors = datasets.simulate_donors(alike, 2, donor_sd=0.0, **options)
    assert list(donors.var_names[donors.var["response"]]) == ["3", "8"]
    treated_n = (donors.obs["condition"] == "treated").to_numpy()
    assert treated_n.mean() == pytest.approx(0.5, abs=0.03)
    added_ng = donors.X.toarray() - 200
    changed_n = treated_n & alike.obs["half"].to_numpy()
    assert (added_ng[~changed_n] == 0).all()
    assert (np.delete(added_ng, [3, 8], axis=1) == 0).all()
    # Each cell has 10,000 counts, so 12 are added to each gene on average; the variance is that of a Poisson with a gamma of shape 10.
    added = added_ng[changed_n][:, [3, 8]]
    assert added.mean(axis=0) == pytest.approx([12, 12], rel=0.05)
    assert added.var(axis=0) == pytest.approx([12 + 12**2 / 10] * 2, rel=0.15)


def test_the_data_stay_as_they_are_and_the_same_seed_gives_the_same_donors(alike):
    before = alike.X.copy()
    first, second = (datasets.simulate_donors(alike, 3, response_genes=["1"], seed=4) for _ in range(2))
    assert abs(alike.X - before).sum() == 0
    assert "donor" not in alike.obs
    assert abs(first.X - second.X).sum() == 0
    assert first.obs.equals(second.obs)
    untreated = datasets.simulate_donors(alike, 3, seed=4)
    assert untreated.obs["donor"].equals(first.obs["donor"])
    assert "condition" not in untreated.obs
    other = datasets.simulate_donors(alike, 3, seed=5)
    assert not other.obs["donor"].equals(first.obs["donor"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_donors": 0}, "n_donors is 0"),
        ({"donor_sd": -1.0}, "donor_sd is -1.0"),
        ({"response": 0.0}, "response is 0.0"),
        ({"response_genes": ["x"]}, "var_names has no gene 'x'"),
        ({"response_genes": "12"}, 'a list of genes, such as \\["12"\\]'),
        ({"response_genes": ["1"], "responding": [True]}, "for each of the 6000 cells"),
        ({"response_genes": ["1"], "responding": np.arange(6000)}, "responding is int64"),
    ],
)
def test_a_wrong_number_gene_or_mask_is_one_error(alike, options, message):
    with pytest.raises(InputError, match=message):
        datasets.simulate_donors(alike, **options)


def test_values_that_are_no_counts_are_refused():
    adata = AnnData(np.array([[0.5, 1.0]], dtype=np.float32))
    with pytest.raises(InputError, match="expected raw counts"):
        datasets.simulate_donors(adata)
