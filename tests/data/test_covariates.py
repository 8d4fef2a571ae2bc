"""Batch and further covariates: learned and read from obs, saved, checked.

Suffixes: n cells, b batches, c columns of further covariates.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcell.data.covariates import CategoricalCovariate, ContinuousCovariate, Covariates
from sparcell.errors import InputError
from sparcell.protocols import AVERAGE_BATCH, Minibatch


def table(**columns):
    """Return obs of cells called cell0, cell1, …"""
    n_cells = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=[f"cell{number}" for number in range(n_cells)])


DONORS = table(donor=["b", "a", "b", "c", "b", "b", "a", "b"])


def batch_rows(values):
    """Return the rows that a network reads for the batch of each cell, (n, b)."""
    one_n1 = torch.ones(len(values.batch_n), 1)
    return Minibatch(one_n1, one_n1, *map(torch.from_numpy, values[:3])).batch_nb.numpy()


def test_categories_are_sorted_and_have_the_proportions_of_the_cells():
    assert CategoricalCovariate.fit(DONORS, "donor") == CategoricalCovariate(
        "donor", ("a", "b", "c"), (0.25, 0.625, 0.125)
    )


def test_categories_are_read_in_their_order_whatever_the_new_cells_are():
    category, obs = CategoricalCovariate.fit(DONORS, "donor"), table(donor=["c", "a", "a"])
    number_n = category.numbers(obs, "error")
    np.testing.assert_array_equal(number_n, [2, 0, 0])
    assert number_n.dtype == np.int32
    one_hot = category.one_hot(obs, "error")
    np.testing.assert_array_equal(one_hot, [[0, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert one_hot.dtype == np.float32


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
    """Writing and reading a file turns text into categories; the data are the same."""
    obs = table(run=values)
    category = CategoricalCovariate.fit(obs, "run")
    assert category == CategoricalCovariate("run", ("7", "8"), (0.5, 0.5))
    np.testing.assert_array_equal(category.numbers(obs, "error"), [0, 1, 0, 1])
    np.testing.assert_array_equal(category.one_hot(obs, "error"), [[1, 0], [0, 1], [1, 0], [0, 1]])


def test_numbers_are_standardized_as_at_fit():
    depth = [3.0, 5.0, 10.0, 2.0]
    number = ContinuousCovariate.fit(table(depth=depth), "depth")
    assert number == ContinuousCovariate("depth", np.mean(depth), np.std(depth))
    standardized = number.standardized(table(depth=[5, 100]), "error")
    np.testing.assert_allclose(standardized[:, 0], (np.array([5, 100]) - 5) / np.std(depth), rtol=1e-6)
    assert (standardized.shape, standardized.dtype) == ((2, 1), np.float32)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1, -3.3])
def test_a_number_that_never_varies_is_centered_only(value):
    """numpy's standard deviation of equal numbers is not always 0."""
    number = ContinuousCovariate.fit(table(age=np.full(300, value)), "age")
    assert number.sd == 1
    standardized = number.standardized(table(age=[value, value + 2]), "error")
    np.testing.assert_allclose(standardized[:, 0], [0, 2], atol=1e-5)


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
    covariates = Covariates.fit(obs, "run", keys)
    assert [column.key for column in covariates.categorical] == ["smoker", "text", "coded"]
    assert [column.key for column in covariates.continuous] == ["whole", "part", "nullable"]
    assert covariates.categorical[0].names == ("False", "True")
    values = covariates.read(obs)
    np.testing.assert_array_equal(values.batch_n, [0, 1, 1, 1])
    assert values.batch_n.dtype == np.int32
    assert (batch_rows(values).shape, values.covariates_nc.shape) == ((4, 2), (4, 9))
    assert (covariates.n_batches, covariates.n_columns) == (2, 9)
    np.testing.assert_array_equal(values.covariates_nc[:, :2], [[0, 1], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_allclose(
        values.covariates_nc[:, 6], (np.arange(4) - 1.5) / np.std(np.arange(4)), rtol=1e-6
    )


def test_numbers_as_a_batch_are_categories():
    covariates = Covariates.fit(table(run=[10, 2, 10, 2]), "run", [])
    assert covariates.batch == CategoricalCovariate("run", ("10", "2"), (0.5, 0.5))


def test_without_covariates_there_is_nothing_to_read():
    values = Covariates().read(table(run=[1, 2, 3]))
    np.testing.assert_array_equal(values.batch_n, [0, 0, 0])
    assert values.batch_proportions_b.shape == (0,)
    assert (batch_rows(values).shape, values.covariates_nc.shape) == ((3, 0), (3, 0))
    assert (Covariates().n_batches, Covariates().n_columns) == (0, 0)


def test_an_average_cell_has_the_proportions_of_the_fit_and_mean_numbers():
    obs = DONORS.assign(depth=np.arange(8.0), lane=["x", "y"] * 4)
    values = Covariates.fit(obs, "donor", ["depth", "lane"]).average(2)
    np.testing.assert_array_equal(values.batch_n, [AVERAGE_BATCH] * 2)
    np.testing.assert_allclose(values.batch_proportions_b, [0.25, 0.625, 0.125])
    np.testing.assert_allclose(batch_rows(values), [[0.25, 0.625, 0.125]] * 2)
    np.testing.assert_allclose(values.covariates_nc, [[0.5, 0.5, 0.0]] * 2)


def test_the_row_of_a_batch_is_one_hot_and_that_of_the_average_batch_the_proportions():
    assert AVERAGE_BATCH == -1
    values = Covariates.fit(DONORS, "donor", []).average(4)
    values.batch_n[1:] = [0, 2, 1]
    proportions = np.array([0.25, 0.625, 0.125], dtype=np.float32)
    expected = np.vstack([proportions, np.eye(3, dtype=np.float32)[[0, 2, 1]]])
    np.testing.assert_array_equal(batch_rows(values), expected)


def test_an_average_of_the_cells_of_the_fit_is_the_average_cell():
    obs = DONORS.assign(depth=np.arange(8.0), lane=["x", "y"] * 4)
    covariates = Covariates.fit(obs, "donor", ["depth", "lane"])
    values, average = covariates.read(obs), covariates.average(1)
    np.testing.assert_allclose(batch_rows(values).mean(axis=0), batch_rows(average)[0], atol=1e-6)
    np.testing.assert_allclose(values.covariates_nc.mean(axis=0), average.covariates_nc[0], atol=1e-6)


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
    covariates = Covariates.fit(obs, "donor", ["lane", "depth", "smoker"])
    again = Covariates.from_json(json.loads(json.dumps(asdict(covariates))))
    assert again == covariates
    for one, other in zip(again.read(obs), covariates.read(obs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_unseen_category_is_refused_with_the_names_of_the_seen_ones():
    category = CategoricalCovariate.fit(DONORS, "donor")
    expected = (
        r"^obs\['donor'\] holds 'z' in 2 cell\(s\), which the model has not seen; expected one of a, b, c, or unseen='average' "
        r"\(in a shell: --unseen average\) to encode such cells as an average batch\.$"
    )
    with pytest.raises(InputError, match=expected):
        category.numbers(table(donor=["a", "z", "y"]), "error")


def test_of_many_categories_eight_are_named():
    obs = table(donor=[f"d{number // 3}" for number in range(60)])
    with pytest.raises(InputError, match=r"expected one of d0, d1, d10, d11, d12, d13, d14, d15 …, or"):
        CategoricalCovariate.fit(obs, "donor").numbers(table(donor=["z"]), "error")


def test_an_unseen_category_may_be_taken_as_average():
    category, obs = CategoricalCovariate.fit(DONORS, "donor"), table(donor=["z", "c", "y"])
    np.testing.assert_array_equal(category.numbers(obs, "average"), [-1, 2, -1])
    rows = [[0.25, 0.625, 0.125], [0, 0, 1], [0.25, 0.625, 0.125]]
    np.testing.assert_array_equal(category.one_hot(obs, "average"), rows)


def test_a_missing_column_is_average_only_if_asked_for():
    obs = DONORS.assign(depth=np.arange(8.0))
    covariates = Covariates.fit(obs, "donor", ["depth"])
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
        Covariates.fit(DONORS, *keys)


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
        Covariates.fit(obs, None, ["run"])
    with pytest.raises(InputError, match=message):
        Covariates.fit(obs, "run", [])
    whole = obs.bfill().ffill()
    with pytest.raises(InputError, match=message):
        Covariates.fit(whole, None, ["run"]).read(obs, unseen)


def test_infinite_numbers_are_refused_at_fit_and_later():
    good, bad = table(depth=[1.0, 2.0, 3.0]), table(depth=[1.0, np.inf, -np.inf])
    message = r"obs\['depth'\] is infinite for 2 cell\(s\), the first 'cell1'; expected finite"
    with pytest.raises(InputError, match=message):
        Covariates.fit(bad, None, ["depth"])
    with pytest.raises(InputError, match=message):
        Covariates.fit(good, None, ["depth"]).read(bad)


def test_text_where_numbers_were_is_refused_unless_it_reads_as_numbers():
    covariates = Covariates.fit(table(depth=[1.0, 2.0, 3.0]), None, ["depth"])
    expected = covariates.read(table(depth=[3.0, 2.0]))
    from_text = covariates.read(table(depth=["3", "2.0"]))
    np.testing.assert_array_equal(from_text.covariates_nc, expected.covariates_nc)
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
            Covariates.fit(obs, *keys)
    assert Covariates.fit(obs, "half", []).n_batches == 10  # half as many as cells may be groups
    assert Covariates.fit(obs[:2], "barcode", []).n_batches == 2


@pytest.mark.parametrize("unseen", ["averge", "ignore", None, True])
def test_what_to_do_with_the_unseen_is_one_of_two_words(unseen):
    with pytest.raises(InputError, match=rf"^unseen is {unseen!r}; expected one of error, average\.$"):
        Covariates.fit(DONORS, "donor", []).read(DONORS, unseen)


@pytest.mark.parametrize(
    ("fitted", "new"),
    [
        ([1, 2, 1, 2], [1.0, 2.0, 2.0, 1.0]),
        ([1.0, 2.0, 1.0, 2.0], [1, 2, 2, 1]),
        ([1, 2, 1, 2], ["1.0", "2.0", "2.0", "1.0"]),
        (["1.0", "2.0", "1.0", "2.0"], [1, 2, 2, 1]),
        ([1, 2, 1, 2], pd.Categorical([1.0, 2.0, 2.0, 1.0])),
        ([1, 2, 1, 2], np.array([1.0, 2, 2.0, 1], dtype=object)),
    ],
)
def test_whole_numbers_that_pandas_made_floats_are_the_same_categories(fitted, new):
    category = CategoricalCovariate.fit(pd.DataFrame({"lane": fitted}), "lane")
    np.testing.assert_array_equal(category.numbers(pd.DataFrame({"lane": new}), "error"), [0, 1, 1, 0])


def test_numbers_with_decimals_stay_different_categories():
    category = CategoricalCovariate.fit(pd.DataFrame({"dose": [0.5, 1.0, 1.5] * 4}), "dose")
    assert category.names == ("0.5", "1", "1.5")
