"""What is known of a cell besides its expression: read from obs, told to the network, and left out of the code.

Suffixes: n cells, g genes, b batches, c columns of further covariates.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import sparcell as sp
from helpers.kinds import assert_same_weights, fit
from helpers.planted import two_batches
from sparcell.data.covariates import CategoricalCovariate, ContinuousCovariate, Covariates
from sparcell.errors import InputError


def table(**columns):
    """Obs of as many cells as the columns are long, named cell0, cell1, …"""
    n_cells = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=[f"cell{number}" for number in range(n_cells)])


DONORS = table(donor=["b", "a", "b", "c", "b", "b", "a", "b"])


def test_categories_are_sorted_and_their_shares_are_those_of_the_cells():
    assert CategoricalCovariate.learn(DONORS, "donor") == CategoricalCovariate(
        "donor", ("a", "b", "c"), (0.25, 0.625, 0.125)
    )


def test_categories_are_read_one_hot_in_their_order_whatever_the_new_cells_are():
    category = CategoricalCovariate.learn(DONORS, "donor")
    found = category.read(table(donor=["c", "a", "a"]), "error")
    np.testing.assert_array_equal(found, [[0, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "values",
    [
        pd.Categorical(["7", "8", "7", "8"], categories=["9", "8", "7"]),
        np.array([7, 8, 7, 8]),
        pd.array([7, 8, 7, 8], dtype="Int64"),
        pd.array(["7", "8", "7", "8"], dtype="string"),
        np.array([7, "8", 7, "8"], dtype=object),
    ],
    ids=["categorical", "int", "nullable", "string", "mixed"],
)
def test_the_type_of_a_batch_column_does_not_matter(values):
    """So that a file written and read again, which turns text into categories, is the same data."""
    obs = table(run=values)
    category = CategoricalCovariate.learn(obs, "run")
    assert category == CategoricalCovariate("run", ("7", "8"), (0.5, 0.5))
    np.testing.assert_array_equal(category.read(obs, "error"), [[1, 0], [0, 1], [1, 0], [0, 1]])


def test_numbers_are_standardised_as_at_fit():
    depth = [3.0, 5.0, 10.0, 2.0]
    number = ContinuousCovariate.learn(table(depth=depth), "depth")
    assert number == ContinuousCovariate("depth", np.mean(depth), np.std(depth))
    found = number.read(table(depth=[5, 100]), "error")
    np.testing.assert_allclose(found[:, 0], (np.array([5, 100]) - 5) / np.std(depth), rtol=1e-6)
    assert (found.shape, found.dtype) == ((2, 1), np.float32)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1, -3.3])
def test_a_number_that_never_varies_is_told_as_it_differs_from_the_fit(value):
    """numpy's standard deviation of equal numbers is not always 0."""
    number = ContinuousCovariate.learn(table(age=np.full(300, value)), "age")
    assert number.sd == 1
    found = number.read(table(age=[value, value + 2]), "error")
    np.testing.assert_allclose(found[:, 0], [0, 2], atol=1e-5)


def test_numbers_are_continuous_and_all_else_are_categories():
    obs = table(
        whole=[1, 2, 3, 4],
        part=np.array([0.5, 1, 2, 3], dtype=np.float32),
        nullable=pd.array([1, 2, 3, 4], dtype="Int64"),
        smoker=[True, False, True, True],
        text=["x", "y", "x", "x"],
        coded=pd.Categorical([1, 2, 1, 1]),
        run=["r1", "r2", "r2", "r2"],
    )
    keys = ["smoker", "whole", "text", "part", "coded", "nullable"]
    covariates = Covariates.learn(obs, "run", keys)
    assert [category.key for category in covariates.categories] == ["smoker", "text", "coded"]
    assert [number.key for number in covariates.numbers] == ["whole", "part", "nullable"]
    assert covariates.categories[0].names == ("False", "True")
    known = covariates.read(obs)
    assert (known.batch_nb.shape, known.covariates_nc.shape) == ((4, 2), (4, 9))
    assert (covariates.n_batches, covariates.n_others) == (2, 9)
    np.testing.assert_array_equal(known.covariates_nc[:, :2], [[0, 1], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_allclose(
        known.covariates_nc[:, 6], (np.arange(4) - 1.5) / np.std(np.arange(4)), rtol=1e-6
    )


def test_numbers_as_a_batch_are_categories():
    covariates = Covariates.learn(table(run=[10, 2, 10, 2]), "run", [])
    assert covariates.batch == CategoricalCovariate("run", ("10", "2"), (0.5, 0.5))


def test_without_covariates_there_is_nothing_to_read():
    known = Covariates().read(table(run=[1, 2, 3]))
    assert (known.batch_nb.shape, known.covariates_nc.shape) == ((3, 0), (3, 0))
    assert (Covariates().n_batches, Covariates().n_others) == (0, 0)


def test_an_average_cell_has_the_shares_of_the_fit_and_mean_numbers():
    obs = DONORS.assign(depth=np.arange(8.0), lane=["x", "y"] * 4)
    known = Covariates.learn(obs, "donor", ["depth", "lane"]).average(2)
    np.testing.assert_allclose(known.batch_nb, [[0.25, 0.625, 0.125]] * 2)
    np.testing.assert_allclose(known.covariates_nc, [[0.5, 0.5, 0.0]] * 2)


def test_an_average_of_the_cells_of_the_fit_is_the_average_cell():
    obs = DONORS.assign(depth=np.arange(8.0), lane=["x", "y"] * 4)
    covariates = Covariates.learn(obs, "donor", ["depth", "lane"])
    for found, expected in zip(covariates.read(obs), covariates.average(1), strict=True):
        np.testing.assert_allclose(found.mean(axis=0), expected[0], atol=1e-6)


NAMES = st.text(min_size=1, max_size=6)
FINITE = st.floats(-1e6, 1e6)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), NAMES, FINITE, st.booleans()), min_size=4, max_size=12
    )
)
def test_covariates_survive_json_and_read_the_same(cells):
    donor, lane, depth, smoker = zip(*cells, strict=True)
    half = len(lane) // 2
    obs = table(donor=donor, lane=(lane[:half] * 3)[: len(lane)], depth=depth, smoker=smoker)
    covariates = Covariates.learn(obs, "donor", ["lane", "depth", "smoker"])
    again = Covariates.from_json(json.loads(json.dumps(asdict(covariates))))
    assert again == covariates
    for one, other in zip(again.read(obs), covariates.read(obs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_category_the_model_has_not_seen_is_refused_with_those_it_knows():
    category = CategoricalCovariate.learn(DONORS, "donor")
    expected = (
        r"^obs\['donor'\] holds 'z' in 2 cell\(s\), which the model has not seen; expected one of a, b, c, or unseen='average' "
        r"to encode such cells as of an average batch\.$"
    )
    with pytest.raises(InputError, match=expected):
        category.read(table(donor=["a", "z", "y"]), "error")


def test_of_many_categories_eight_are_named():
    obs = table(donor=[f"d{number // 3}" for number in range(60)])
    with pytest.raises(InputError, match=r"expected one of d0, d1, d10, d11, d12, d13, d14, d15 …, or"):
        CategoricalCovariate.learn(obs, "donor").read(table(donor=["z"]), "error")


def test_a_category_the_model_has_not_seen_may_be_taken_as_average():
    found = CategoricalCovariate.learn(DONORS, "donor").read(table(donor=["z", "c", "y"]), "average")
    np.testing.assert_array_equal(found, [[0.25, 0.625, 0.125], [0, 0, 1], [0.25, 0.625, 0.125]])


def test_a_missing_column_is_average_only_if_asked_for():
    obs = DONORS.assign(depth=np.arange(8.0))
    covariates = Covariates.learn(obs, "donor", ["depth"])
    with pytest.raises(InputError, match=r"^obs has no column 'depth'; did you mean 'depths'\?$"):
        covariates.read(obs.rename(columns={"depth": "depths"}))
    with pytest.raises(InputError, match="obs has no column 'donor'; there are: depth"):
        covariates.read(obs[["depth"]])
    bare = covariates.read(obs[[]], "average")
    for one, other in zip(bare, covariates.average(8), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("keys", [("run", ()), (None, ("run",))])
def test_a_column_that_is_not_there_is_refused_at_fit(keys):
    with pytest.raises(InputError, match=r"obs has no column 'run'; there are: donor\."):
        Covariates.learn(DONORS, *keys)


@pytest.mark.parametrize("unseen", ["error", "average"])
@pytest.mark.parametrize(
    "values",
    [["a", None, "b", None], pd.Categorical(["a", None, "b", None]), [1.0, np.nan, 2.0, np.nan]],
    ids=["text", "categorical", "numbers"],
)
def test_missing_values_are_refused_and_the_first_cell_is_named(values, unseen):
    obs = table(run=values)
    message = r"obs\['run'\] is empty for 2 cell\(s\), the first 'cell1'; expected a value for each"
    with pytest.raises(InputError, match=message):
        Covariates.learn(obs, None, ["run"])
    with pytest.raises(InputError, match=message):
        Covariates.learn(obs, "run", [])
    whole = obs.bfill().ffill()
    with pytest.raises(InputError, match=message):
        Covariates.learn(whole, None, ["run"]).read(obs, unseen)


def test_infinite_numbers_are_refused_at_fit_and_later():
    good, bad = table(depth=[1.0, 2.0, 3.0]), table(depth=[1.0, np.inf, -np.inf])
    message = r"obs\['depth'\] is infinite for 2 cell\(s\), the first 'cell1'; expected finite"
    with pytest.raises(InputError, match=message):
        Covariates.learn(bad, None, ["depth"])
    with pytest.raises(InputError, match=message):
        Covariates.learn(good, None, ["depth"]).read(bad)


def test_text_where_numbers_were_is_refused_unless_it_reads_as_numbers():
    covariates = Covariates.learn(table(depth=[1.0, 2.0, 3.0]), None, ["depth"])
    expected = covariates.read(table(depth=[3.0, 2.0]))
    found = covariates.read(table(depth=["3", "2.0"]))
    np.testing.assert_array_equal(found.covariates_nc, expected.covariates_nc)
    with pytest.raises(InputError, match=r"obs\['depth'\] holds what is no number .*deep.*expected numbers"):
        covariates.read(table(depth=["3", "deep"]))


def test_a_column_that_names_cells_is_refused():
    obs = table(barcode=[f"c{number}" for number in range(20)], donor=["a", "b"] * 10)
    obs["half"] = [f"c{number // 2}" for number in range(20)]
    message = (
        r"obs\['barcode'\] has 20 different values in 20 cells; expected groups of cells, such as donors"
    )
    for keys in (("barcode", ()), ("donor", ("barcode",))):
        with pytest.raises(InputError, match=message):
            Covariates.learn(obs, *keys)
    assert Covariates.learn(obs, "half", []).n_batches == 10  # half as many as cells may be groups
    assert Covariates.learn(obs[:2], "barcode", []).n_batches == 2


@pytest.mark.parametrize("unseen", ["averge", "ignore", None, True])
def test_what_to_do_with_the_unseen_is_one_of_two_words(unseen):
    with pytest.raises(InputError, match=rf"^unseen is {unseen!r}; expected one of error, average\.$"):
        Covariates.learn(DONORS, "donor", []).read(DONORS, unseen)


@pytest.fixture(scope="module")
def adata():
    return two_batches()


@pytest.fixture(scope="module", params=[("beta-vae", "nb"), ("beta-vsc", "poisson"), ("autoencoder", "zinb")])
def told(request, adata):
    """A model that was told the batch."""
    return fit(request.param, adata, batch_key="batch")


AFFECTED = slice(-40, None)


def fold(restored_ng, plain_ng):
    """How many times more often affected genes are counted, against the others of the same cell: one number a cell."""
    one, other = (
        x_ng[:, AFFECTED].sum(axis=1) / x_ng[:, :-40].sum(axis=1) for x_ng in (restored_ng, plain_ng)
    )
    return one / other


def test_cells_are_moved_between_batches(told, adata):
    """In batch b the affected genes were counted five times as often; nothing of it is left when all cells are moved to one batch."""
    in_b_n = (adata.obs["batch"] == "b").to_numpy()
    as_a, as_b = (told.reconstruct(adata, batch=batch) for batch in "ab")
    assert 3.3 < np.median(fold(as_b, as_a)) < 6
    own = told.reconstruct(adata)
    np.testing.assert_array_equal(own[in_b_n], as_b[in_b_n])
    np.testing.assert_array_equal(own[~in_b_n], as_a[~in_b_n])
    measured = adata.X.toarray()
    assert 4 < fold(measured[in_b_n].mean(axis=0)[None], measured[~in_b_n].mean(axis=0)[None])[0] < 6
    for moved in (as_a, as_b):
        assert 0.9 < fold(moved[in_b_n].mean(axis=0)[None], moved[~in_b_n].mean(axis=0)[None])[0] < 1.1
    between = np.median(fold(told.reconstruct(adata, batch="average"), as_a))
    assert 1.5 < between < 0.8 * np.median(fold(as_b, as_a))


def test_a_moved_cell_keeps_its_type_and_its_size(told, adata):
    restored = told.reconstruct(adata, batch="a")
    sizes_n = adata.X.toarray().sum(axis=1)
    assert (restored.sum(axis=1) <= sizes_n * (1 + 1e-5)).all()
    markers = np.stack([restored[:, kind * 15 : kind * 15 + 15].sum(axis=1) for kind in range(4)], axis=1)
    expected = adata.obs["type"].str.removeprefix("type ").astype(int).to_numpy()
    assert (markers.argmax(axis=1) == expected).mean() > 0.95


def test_an_unknown_batch_or_a_model_without_batches_is_told(told, adata):
    with pytest.raises(InputError, match="no batch 'z' in the model; there are: a, b, average"):
        told.reconstruct(adata, batch="z")
    plain = fit(("beta-vae", "nb"), adata, settings={"epochs": 1})
    with pytest.raises(InputError, match=r"no batch 'a' in the model; .*average"):
        plain.reconstruct(adata, batch="a")


@pytest.mark.parametrize("name", ["autoencoder", "beta-vae", "beta-vsc"])
def test_the_code_carries_less_of_a_batch_effect_when_the_batch_is_told(name, adata):
    """Of a classifier's answers, half would be right by chance; the types are told apart as before."""
    kind = (name, "poisson")
    told, untold = (fit(kind, adata, batch_key=key) for key in ("batch", None))
    assert right(untold, adata, "batch") > 0.8
    assert right(told, adata, "batch") < 0.7
    assert right(told, adata, "type") > 0.95


def right(model, adata, column):
    """Share of a logistic regression's answers that are right, of cells it was not trained on."""
    return cross_val_score(
        LogisticRegression(max_iter=2000), model.transform(adata), adata.obs[column], cv=4
    ).mean()


@pytest.mark.parametrize("kind", [("beta-vae", "gaussian"), ("autoencoder", "gaussian")], ids="-".join)
def test_expression_is_moved_between_batches_too(kind, adata):
    model = fit(kind, adata, batch_key="batch", settings={"epochs": 60})
    shift_g = (model.reconstruct(adata, batch="b") - model.reconstruct(adata, batch="a")).mean(axis=0)
    x_ng, in_b_n = adata.layers["lognorm"].toarray(), (adata.obs["batch"] == "b").to_numpy()
    expected_g = x_ng[in_b_n].mean(axis=0) - x_ng[~in_b_n].mean(axis=0)
    np.testing.assert_allclose(shift_g, expected_g, atol=0.4)
    assert expected_g[AFFECTED].mean() > 0.5


def test_further_covariates_are_restored_and_left_out_of_the_code(adata):
    """The same batch effect, told as a covariate."""
    untold = fit(("beta-vae", "poisson"), adata)
    told = fit(("beta-vae", "poisson"), adata, covariates=("batch", "depth"))
    assert right(told, adata, "batch") < 0.7 < right(untold, adata, "batch")
    other = adata.copy()
    other.obs["batch"] = "a"
    as_a = told.reconstruct(other)
    other.obs["batch"] = "b"
    assert 3.3 < np.median(fold(told.reconstruct(other), as_a)) < 6


@pytest.mark.parametrize("encode", [False, True], ids=["decoder told", "encoder told too"])
def test_a_model_with_covariates_is_saved_and_loaded(adata, encode, tmp_path):
    settings = {"epochs": 2, "encode_covariates": encode, "dispersion": "gene-batch"}
    model = fit(("beta-vsc", "nb"), adata, batch_key="batch", covariates=("depth", "type"), settings=settings)
    model.save(tmp_path / "model")
    loaded = sp.load(tmp_path / "model")
    assert loaded.schema == model.schema
    assert loaded.schema.covariates.batch.names == ("a", "b")
    assert_same_weights(loaded, model)
    np.testing.assert_array_equal(loaded.transform(adata), model.transform(adata))
    np.testing.assert_array_equal(loaded.reconstruct(adata, batch="b"), model.reconstruct(adata, batch="b"))
    np.testing.assert_array_equal(loaded.sample(5).X, model.sample(5).X)
    assert loaded.network.likelihood.log_r.shape == (2, 120)


@pytest.fixture(scope="module", params=[False, True], ids=["decoder told", "encoder told too"])
def either(request, adata):
    settings = {"epochs": 3, "encode_covariates": request.param}
    return fit(("beta-vae", "nb"), adata, batch_key="batch", covariates=("depth",), settings=settings)


def test_codes_need_the_columns_only_if_the_encoder_was_told_them(either, adata):
    bare = adata.copy()
    del bare.obs["batch"], bare.obs["depth"]
    if either.settings.encode_covariates:
        with pytest.raises(InputError, match=r"obs has no column '(batch|depth)'"):
            either.transform(bare)
        assert not np.array_equal(either.transform(bare, unseen="average"), either.transform(adata))
    else:
        np.testing.assert_array_equal(either.transform(bare), either.transform(adata))
    for use in (either.reconstruct, either.score, either.log_likelihood):
        with pytest.raises(InputError, match=r"obs has no column '(batch|depth)'"):
            use(bare)
        assert np.isfinite(use(bare, unseen="average")).all()


def test_a_batch_the_model_has_not_seen_is_refused_or_average(either, adata):
    other = adata.copy()
    other.obs["batch"] = np.where(np.arange(adata.n_obs) == 7, "c", adata.obs["batch"].astype(str))
    message = r"obs\['batch'\] holds 'c' in 1 cell\(s\), which the model has not seen; expected one of a, b, or unseen='average'"
    with pytest.raises(InputError, match=message):
        either.reconstruct(other)
    if either.settings.encode_covariates:
        with pytest.raises(InputError, match=message):
            either.transform(other)
    walk = either.interpolate(other, "cell7", "cell8", n_steps=2, unseen="average")
    np.testing.assert_allclose(walk.obsm["X_beta_vae"], either.transform(other[[7, 8]], unseen="average"))
    restored, expected = either.reconstruct(other, unseen="average"), either.reconstruct(adata)
    changed = np.flatnonzero((restored != expected).any(axis=1))
    assert list(changed) == [7]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"batch_key": "donor"}, "obs has no column 'donor'"),
        ({"batch_key": "barcode"}, "400 different values in 400 cells"),
        ({"covariates": ("hole",)}, r"obs\['hole'\] is empty for 1 cell\(s\), the first 'cell3'"),
        ({"covariates": ("endless",)}, r"obs\['endless'\] is infinite for 1 cell\(s\), the first 'cell3'"),
        ({"covariates": ("depth", "bach")}, "obs has no column 'bach'; did you mean 'batch'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_columns_that_cannot_be_told_are_refused_before_training(adata, told, message):
    other, epochs = adata.copy(), []
    depth = other.obs["depth"].to_numpy(dtype=float)
    other.obs["barcode"] = list(other.obs_names)
    other.obs["hole"] = np.where(np.arange(400) == 3, np.nan, depth)
    other.obs["endless"] = np.where(np.arange(400) == 3, np.inf, depth)
    with pytest.raises(InputError, match=message):
        fit(("beta-vae", "nb"), other, on_epoch=epochs.append, **told)
    assert epochs == []


def test_one_covariate_may_be_named_without_a_tuple(adata):
    """A word is a sequence of letters, of which none is a column."""
    model = fit(("beta-vae", "nb"), adata, covariates="depth", settings={"epochs": 1})
    assert [number.key for number in model.schema.covariates.numbers] == ["depth"]
