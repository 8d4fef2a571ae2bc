"""Which cells are compared, and with which weights."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from sparcell.errors import InputError
from sparcell.tl.group_comparisons import Groups


def groups(labels, batches=None, within=None):
    batch_n = np.zeros(len(labels), dtype=np.int64) if batches is None else np.array(list(map(int, batches)))
    return Groups(
        "type",
        pd.Categorical([None if label == "." else label for label in labels]),
        None if within is None else "cell",
        None if within is None else pd.Categorical(list(within)),
        "donor",
        batch_n,
    )


def test_without_batches_each_cell_of_a_group_counts_the_same():
    (comparison,) = groups("aaabbbbb").comparisons("a", "b")
    np.testing.assert_allclose(comparison.weights(np.ones(8)), [[1 / 3] * 3 + [0] * 5, [0] * 3 + [1 / 5] * 5])


def test_a_cell_counts_in_proportion_to_its_value_among_the_cells_of_its_group_and_batch():
    (comparison,) = groups("aaabbb").comparisons("a", "b")
    weight_2m = comparison.weights(np.array([1.0, 1.0, 2.0, 3.0, 0.5, 0.5]))
    np.testing.assert_allclose(weight_2m, [[0.25, 0.25, 0.5, 0, 0, 0], [0, 0, 0, 0.75, 0.125, 0.125]])


def test_batches_have_the_same_weight_in_both_means():
    """Batch 0: 2 and 1 cells, weight 2/3. Batch 1: 1 and 3 cells, weight 3/4. Batch 2 holds one group only."""
    (comparison,) = groups("aababbbaa", "000111122").comparisons("a", "b")
    assert list(comparison.row_m) == [0, 1, 2, 3, 4, 5, 6]
    first, second = (2 / 3) / (2 / 3 + 3 / 4), (3 / 4) / (2 / 3 + 3 / 4)
    expected = [
        [first / 2, first / 2, 0, second, 0, 0, 0],
        [0, 0, first, 0, second / 3, second / 3, second / 3],
    ]
    np.testing.assert_allclose(comparison.weights(np.ones(7)), expected)


def test_permuted_labels_keep_the_weights_of_each_batch():
    (comparison,) = groups("aababbbaab", "0001111222").comparisons("a", "b")
    ones_m = np.ones(len(comparison.row_m))
    permuted = comparison.permuted_weights(ones_m, 20, seed=0)
    for batch in np.unique(comparison.batch_m):
        cells = comparison.batch_m == batch
        original = np.sort(comparison.weights(ones_m)[:, cells], axis=1)
        np.testing.assert_allclose(
            np.sort(permuted[..., cells], axis=2), np.tile(original, (20, 1, 1)), rtol=1e-6
        )
        pairs = (permuted[:, 0, cells] > 0).astype(int) + (permuted[:, 1, cells] > 0)
        assert (pairs == 1).all()  # a cell is in one group
    assert len({row.tobytes() for row in permuted}) > 1
    np.testing.assert_array_equal(permuted, comparison.permuted_weights(ones_m, 20, seed=0))


def test_every_group_against_the_rest_without_unlabeled_cells():
    found = groups("aaabbbccc...").comparisons(None, None)
    assert [(one.group, one.reference, len(one.row_m)) for one in found] == [
        (name, "rest", 9) for name in "abc"
    ]
    assert [one.group for one in groups("aaabbbccc").comparisons(None, "b")] == ["a", "c"]


def test_groups_are_compared_within_each_level(caplog):
    with caplog.at_level(logging.WARNING, logger="sparcell"):
        found = groups("aaabbbaaabab", within="xxxxxxyyyyyy").comparisons("a", "b")
    assert [one.within for one in found] == ["x"]
    assert "within 'y' has 4 and 2 cells" in caplog.text


@pytest.mark.parametrize(
    ("labels", "batches", "pair", "message"),
    [
        ("aaabbb", None, ("d", None), "no group 'd'"),
        ("aaabbb", None, ("a", "a"), "two different groups"),
        ("aabbb", None, ("a", "b"), "2 and 3 cells; expected at least 3"),
        ("aaabbb", "000111", ("a", "b"), "cannot be told from a difference between batches"),
        ("aaaabbbb", "00020111", ("a", "b"), "at least 3 cells of both groups"),
    ],
)
def test_comparisons_that_are_impossible_are_refused(labels, batches, pair, message):
    with pytest.raises(InputError, match=message):
        groups(labels, batches).comparisons(*pair)
