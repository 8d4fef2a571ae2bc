"""The kind of a matrix is inferred from every value; messages name what is wrong, where, and what to type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from sparcell.data import blocks
from sparcell.data.facts import facts_of
from sparcell.data.validation import check_matrix, infer_matrix_kind, require_kind
from sparcell.errors import InputError

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(0.7, size=(40, 30)).astype(np.float32) + np.eye(40, 30, dtype=np.float32)
COUNTS[:, 0] += 1
NORMALIZED = COUNTS / COUNTS.sum(axis=1, keepdims=True) * 1e4
KINDS = {
    "counts": COUNTS,
    "log-normalized": np.log1p(NORMALIZED),
    "scaled": (COUNTS - COUNTS.mean(axis=0)) / (COUNTS.std(axis=0) + 1),
    "other": NORMALIZED,
}
FORMS = {
    "dense": np.asarray,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_matrix,
    "array": sparse.csr_array,
    "lil": sparse.lil_matrix,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_in_every_form(kind, form):
    x_ng = FORMS[form](KINDS[kind])
    assert infer_matrix_kind(x_ng) == kind
    require_kind(x_ng, kind, "X")


@pytest.mark.parametrize(
    ("x_ng", "kind"),
    [
        (np.zeros((2, 2)), "counts"),
        (np.ones((2, 2), dtype=bool), "counts"),
        (np.full((3, 2), 7, dtype=np.uint16), "counts"),
        (np.full((3, 2), -7, dtype=np.int16), "scaled"),
        (np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]]), "other"),  # fractions of a cell: one total
        (np.array([[0.5, 0.0], [0.25, 3.1], [1.2, 0.0]]), "log-normalized"),
        (np.array([[0.5, 0.0], [2.0, 3.0], [1.0, 0.0]]), "other"),  # logged values are hardly ever whole
        (np.array([[1.0, np.nan]]), "other"),
        (np.log2(1 + NORMALIZED * 100), "log-normalized"),  # log2 counts per million
        (np.log2(1 + COUNTS), "log-normalized"),  # but for these, of which many are
        (
            np.expm1(np.log1p(COUNTS * 7)).astype(np.float32),
            "counts",
        ),  # rounded by a logarithm and back
        (np.array([[2.9999, 20_000.05]]), "counts"),
        (np.array([[2.999, 3.0]]), "other"),
        (np.array([[1e-7, 3.0]]), "other"),  # nothing but 0 is no count
        (np.array([[20_000.4, 3.0]]), "other"),
        (sparse.csr_matrix((3, 3)), "counts"),
    ],
)
def test_borderline_kinds(x_ng, kind):
    assert infer_matrix_kind(x_ng) == kind


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, 399), column=st.integers(0, 29), value=st.sampled_from([0.5, -1.0, np.nan, 1e9 + 0.5])
)
def test_one_value_among_many_decides(row, column, value):
    x_ng = np.tile(COUNTS, (10, 1)).astype(np.float64)
    x_ng[row, column] = value
    expected = "scaled" if value == -1.0 else "other"
    assert infer_matrix_kind(x_ng) == expected
    assert infer_matrix_kind(sparse.csr_matrix(x_ng)) == expected


def test_blocks_see_the_last_row(monkeypatch):
    monkeypatch.setattr(blocks, "ROW_BLOCK_VALUES", 64)  # two rows at a time
    x_ng = COUNTS.copy()
    assert infer_matrix_kind(x_ng) == "counts"
    x_ng[-1, -1] = -1
    assert infer_matrix_kind(x_ng) == "scaled"
    x_ng[-1, -1] = np.inf
    with pytest.raises(InputError, match=r"1 missing or infinite .* inf in cell number 40, gene number 30"):
        check_matrix(x_ng, "X")
    with pytest.raises(InputError, match=r"inf in cell number 40, gene number 30"):
        check_matrix(sparse.csr_matrix(x_ng), "X")


def test_repeated_positions_of_a_sparse_matrix_add_up():
    halves = sparse.csr_matrix((np.array([0.5, 0.5]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    assert infer_matrix_kind(halves) == "counts"
    assert halves.nnz == 2  # the user's own matrix is as it was


GIVE = r"give the raw counts: put them into X or name their layer, as in layer='counts' \(in a shell: --layer counts\)"
ROUND = r"if these are counts with decimals .* round them: adata.X = numpy.rint\(adata.X\)"
DECIMALS = COUNTS + 0.31 * RNG.random(COUNTS.shape) * (COUNTS > 0)
PLAIN = {
    "log": (np.log1p(NORMALIZED), "log-normalized values", GIVE),
    "z-scored": (KINDS["scaled"], r"values below 0, as in scaled \(z-scored\) data", GIVE),
    "a number for missing values": (
        np.where(np.eye(40, 30) > 0, -1, COUNTS),
        r"whole numbers, 30 of them below 0 \(from -1 to",
        f"counts cannot be below 0, so something was subtracted, or negative values mark missing ones: {GIVE}",
    ),
    "counts per million": (
        NORMALIZED * 100,
        r"values normalized to a total of 1e\+06 in each cell, counts per million, not logged \(from 0 to",
        GIVE,
    ),
    "counts per 10,000": (NORMALIZED, "values normalized to a total of 10000 in each cell, not logged", GIVE),
    "counts per million of some genes": (
        (NORMALIZED * 100)[:, :20],
        r"normalized values, not logged \(in each cell multiples of one number\)",
        GIVE,
    ),
    "ambient RNA removed": (DECIMALS * 8, "values with decimals, not logged", f"{GIVE}; {ROUND}"),
    "few counts, some with decimals": (
        np.where(RNG.random(COUNTS.shape) < 0.3, DECIMALS, COUNTS),
        "values with decimals, not logged",
        f"{GIVE}; {ROUND}",
    ),
}


@pytest.mark.parametrize("form", ["dense", "csr", "csc"])
@pytest.mark.parametrize("name", PLAIN)
def test_what_is_not_counts_is_called_by_its_name(name, form):
    x_ng, description, remedy = PLAIN[name]
    with pytest.raises(
        InputError, match=rf"^layers\['x'\] holds {description}.*; expected counts .*: {remedy}\.$"
    ):
        require_kind(FORMS[form](x_ng), "counts", "layers['x']")


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("counts", r"log-normalize the counts with log_normalize=True \(in a shell: --log-normalize\)"),
        (
            "scaled",
            f"name the layer that holds the values before scaling, or {GIVE}, which are then log-normalized",
        ),
        ("other", f"take the logarithm, in Python scanpy.pp.log1p\\(adata\\), or {GIVE}, which are"),
    ],
)
def test_what_is_not_logged_gets_its_remedy(kind, remedy):
    with pytest.raises(InputError, match=f"expected log-normalized values: {remedy}") as caught:
        require_kind(KINDS[kind], "log-normalized", "X")
    assert f"{KINDS[kind].max():g}" in str(caught.value)


def test_remedies_name_the_setting_and_work():
    with pytest.raises(InputError, match=r"input_layer='counts' \(in a shell: --input-layer counts\)"):
        require_kind(KINDS["scaled"], "counts", "X", setting="input_layer")
    with pytest.raises(InputError, match="give another layer"):
        require_kind(COUNTS, "scaled", "X")
    for form in ("dense", "csr", "array"):
        require_kind(np.rint(FORMS[form](DECIMALS)), "counts", "X")


def test_logged_values_that_were_rounded_are_a_warning():
    """Whole numbers may be counts, so this is no error. Real counts are mostly 0 and have more ones than twos."""
    counts_ng = np.random.default_rng(1).poisson(0.3, size=(200, 60))
    counts_ng[:, 0] += 1
    logged_ng = np.log1p(counts_ng / counts_ng.sum(axis=1, keepdims=True) * 1e4)
    for rounded in (
        np.rint(logged_ng),
        np.rint(logged_ng).astype(int),
        sparse.csr_matrix(np.rint(logged_ng)),
    ):
        with pytest.warns(
            UserWarning,
            match=r"mostly 0, and more often \d than 1, as rounded logged values do\. If the values are logged, give",
        ):
            require_kind(rounded, "counts", "X")
    require_kind(counts_ng, "counts", "X")
    require_kind(np.rint(logged_ng[:20]), "counts", "X")  # too few values to tell
    require_kind(np.rint(logged_ng) * 4, "counts", "X")  # values above 20 are never logged


def test_nan_is_called_nan():
    with pytest.raises(InputError, match="NaN or infinite"):
        require_kind(np.array([[np.nan, 1.0]]), "counts", "X")


def test_the_first_bad_value_is_named():
    x_ng = COUNTS.copy()
    x_ng[3, 2] = np.nan
    x_ng[5, 1] = np.inf
    cells, genes = [f"c{i}" for i in range(40)], [f"g{i}" for i in range(30)]
    for form in ("dense", "csr", "coo"):
        with pytest.raises(InputError, match=r"2 missing or infinite .* nan in cell 'c3', gene 'g2'"):
            check_matrix(FORMS[form](x_ng), "X", gene_names=genes, cell_names=cells)


@pytest.mark.parametrize(
    ("x_ng", "message"),
    [
        (np.zeros(3), "has 1 dimensions"),
        ([[1, 2]], "is a list"),
        (np.zeros((0, 3)), "0 cells × 3 genes"),
        (np.zeros((3, 0)), "3 cells × 0 genes"),
        (np.array([["a"]]), "expected real numbers"),
        (np.array([[1 + 2j]]), "complex"),
        (np.array([[None]]), "object"),
    ],
)
def test_not_a_matrix_of_numbers(x_ng, message):
    with pytest.raises(InputError, match=message):
        check_matrix(x_ng, "X")


@pytest.mark.parametrize("form", FORMS)
def test_empty_cells_matter_only_to_a_model(form):
    x_ng = COUNTS.copy()
    x_ng[[4, 9]] = 0
    x_ng[:, 7] = 0  # an empty gene is never an error
    check_matrix(FORMS[form](x_ng), "X")
    with pytest.raises(InputError, match=r"2 cell\(s\) without a single count, the first number 5"):
        check_matrix(FORMS[form](x_ng), "X", allow_empty_cells=False)
    x_ng[[4, 9], 0] = 1
    check_matrix(FORMS[form](x_ng), "X", allow_empty_cells=False)


def test_stored_zeros_are_no_counts():
    stored = sparse.csr_matrix((np.array([0.0]), np.array([1]), np.array([0, 1])), shape=(1, 2))
    with pytest.raises(InputError, match="without a single count"):
        check_matrix(stored, "X", allow_empty_cells=False)


def test_a_damaged_sparse_matrix_is_not_computed_on():
    broken = sparse.csr_matrix(COUNTS)
    broken.indices[5] = 10_000
    with pytest.raises(InputError, match="damaged sparse matrix"):
        check_matrix(broken, "X")


ANY = hnp.arrays(
    dtype=st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.bool_]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@settings(max_examples=200, deadline=None)
@given(x=ANY)
def test_any_array_has_a_kind_or_is_one_input_error(x):
    before = x.copy()
    sound = x.ndim == 2 and x.size > 0 and bool(np.isfinite(x).all())
    if not sound:
        with pytest.raises(InputError):
            check_matrix(x, "X")
        return
    check_matrix(x, "X")
    kind = infer_matrix_kind(x)
    assert kind == infer_matrix_kind(sparse.csc_matrix(x))
    assert (kind == "scaled") == bool((x < 0).any())
    if (x >= 0).all() and (x == np.floor(x)).all():
        assert kind == "counts"
    if kind == "counts":
        np.testing.assert_allclose(x, np.rint(x), rtol=1e-4, atol=0)
    np.testing.assert_array_equal(x, before)


def test_a_matrix_of_mostly_empty_barcodes_is_called_unfiltered():
    x_ng = sparse.csr_matrix(np.r_[COUNTS, np.zeros((3 * len(COUNTS), COUNTS.shape[1]))])
    with pytest.raises(InputError, match="looks like the unfiltered matrix of all droplets"):
        check_matrix(x_ng, "X", allow_empty_cells=False)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_values_of_each_cell_are_counted_by_blocks(kind, monkeypatch):
    monkeypatch.setattr(blocks, "ROW_BLOCK_VALUES", 7)
    x_ng = np.random.default_rng(0).poisson(0.5, (30, 11)).astype("f4")
    stored = kind(x_ng)
    if sparse.issparse(stored):
        stored.data[::5] = 0  # stored zeros are no counts
        x_ng = stored.toarray()
    np.testing.assert_array_equal(facts_of(stored).non_zero_n, np.count_nonzero(x_ng, axis=1))
