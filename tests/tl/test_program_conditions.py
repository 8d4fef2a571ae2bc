"""Activity of programs between conditions: values by hand, the level of the tests under the null, and what is refused."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sparcell as sp
from sparcell.errors import InputError

TYPES, PROGRAMS = ("B", "T"), [f"beta_vsc_{number}+" for number in range(1, 6)]


def cells(rng, *, n_donors=8, paired=False, shift=0.0, off=0.5):
    """Return cells of two types and the activity of five programs; each donor has its own mean of each program.

    Cells are half off. In condition "b" the first program rises by `shift` in T cells. Donors are sampled anew for each condition unless
    `paired`.
    """
    rows = []
    for donor in range(n_donors):
        for condition in ("a", "b") if paired else ("ab"[donor % 2],):
            rows += [(f"d{donor}", condition, kind) for kind in TYPES for _ in range(rng.integers(15, 60))]
    obs = pd.DataFrame(
        rows, columns=["donor", "condition", "type"], index=[f"c{n}" for n in range(len(rows))]
    )
    activity = pd.DataFrame(index=obs.index, columns=PROGRAMS, dtype=float)
    donor_n = obs["donor"].astype("category").cat.codes.to_numpy()
    for program in PROGRAMS:
        donor_mean = rng.gamma(4.0, 0.5, n_donors)
        value_n = rng.gamma(2.0, donor_mean[donor_n] / 2)
        activity[program] = np.where(rng.random(len(obs)) < off, 0, value_n)
    raised_n = (obs["condition"] == "b") & (obs["type"] == "T")
    activity.loc[raised_n, PROGRAMS[0]] += shift
    return ad.AnnData(np.zeros((len(obs), 1), np.float32), obs=obs), activity


@pytest.mark.parametrize("paired", [False, True])
def test_values_are_means_of_samples_and_p_that_of_the_t_test(paired):
    adata, activity = cells(np.random.default_rng(0), n_donors=6, paired=paired, shift=0.5)
    table = sp.tl.program_conditions(adata, "condition", "donor", within="type", activity=activity)
    assert len(table) == len(TYPES) * len(PROGRAMS)
    row = table.set_index(["cell_type", "program"]).loc[("T", PROGRAMS[2])]
    means = (
        activity[PROGRAMS[2]].groupby([adata.obs["type"], adata.obs["condition"], adata.obs["donor"]]).mean()
    )
    first, second = means["T"]["a"], means["T"]["b"]
    expected = stats.ttest_rel(second, first) if paired else stats.ttest_ind(second, first, equal_var=False)
    assert row["p"] == pytest.approx(expected.pvalue)
    assert row["difference"] == pytest.approx(second.mean() - first.mean())
    assert row["effect"] == pytest.approx(row["difference"] / activity[PROGRAMS[2]].std(ddof=0))
    assert row["mean_group"] == pytest.approx(second.mean())
    assert (row["group"], row["reference"], row["n_group"]) == ("b", "a", len(second))
    assert table.attrs["paired"] is paired
    np.testing.assert_allclose(table["p_adjusted"], stats.false_discovery_control(table["p"]))


@pytest.mark.parametrize(("paired", "n_donors"), [(False, 4), (False, 8), (True, 4)])
def test_the_level_is_kept_when_conditions_are_permuted_over_samples(paired, n_donors):
    """Labels of samples are permuted (of a pair: swapped). At most 5 % + 2 s.e. of the tests, over 150 data sets, have p < .05.

    A test of cells fails this: donors differ, so that it calls most programs.
    """
    rng = np.random.default_rng(n_donors)
    rates, rates_of_cells, any_called = [], [], []
    for _ in range(150):
        adata, activity = cells(rng, n_donors=n_donors, paired=paired)
        donors = adata.obs["donor"].unique()
        if paired:
            swapped = set(donors[rng.random(len(donors)) < 0.5])
            other = adata.obs["condition"].map({"a": "b", "b": "a"})
            adata.obs["condition"] = np.where(adata.obs["donor"].isin(swapped), other, adata.obs["condition"])
        else:
            label = dict(zip(rng.permutation(donors), "ab" * (len(donors) // 2), strict=True))
            adata.obs["condition"] = adata.obs["donor"].map(label)
        table = sp.tl.program_conditions(adata, "condition", "donor", within="type", activity=activity)
        rates.append((table["p"] < 0.05).mean())
        any_called.append((table["p_adjusted"] < 0.05).any())
        if not paired:
            in_b = (adata.obs["condition"] == "b").to_numpy()
            values = activity.to_numpy()
            rates_of_cells.append((stats.ttest_ind(values[in_b], values[~in_b]).pvalue < 0.05).mean())
    assert np.mean(rates) <= 0.05 + 2 * np.std(rates) / np.sqrt(len(rates))
    assert np.mean(any_called) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(rates))
    if not paired:
        assert np.mean(rates_of_cells) > 0.2


def test_a_program_that_a_condition_raises_is_found_in_its_type_alone():
    adata, activity = cells(np.random.default_rng(1), n_donors=8, paired=True, shift=1.5)
    table = sp.tl.program_conditions(adata, "condition", "donor", within="type", activity=activity)
    found = table[table["p_adjusted"] < 0.05]
    assert found[["cell_type", "program"]].to_numpy().tolist() == [["T", PROGRAMS[0]]]
    assert found["difference"].iloc[0] == pytest.approx(1.5, abs=0.5)


def test_programs_that_are_off_and_samples_of_few_cells_are_left_out():
    adata, activity = cells(np.random.default_rng(2), n_donors=6, paired=True)
    activity[PROGRAMS[1]] *= np.arange(adata.n_obs) % 20 == 0
    few_n = (adata.obs["donor"] == "d0") & (adata.obs["condition"] == "a") & (adata.obs["type"] == "B")
    keep_n = ~few_n | (np.cumsum(few_n) <= 9)
    table = sp.tl.program_conditions(
        adata[keep_n].copy(), "condition", "donor", within="type", activity=activity[keep_n.to_numpy()]
    )
    assert PROGRAMS[1] not in set(table["program"])
    assert table.groupby("cell_type")["n_group"].first().to_dict() == {"B": 5, "T": 6}
    assert table.groupby("cell_type")["n_reference"].first().to_dict() == {"B": 5, "T": 6}


def test_equal_samples_are_no_difference():
    adata, activity = cells(np.random.default_rng(3), n_donors=4, paired=True)
    activity[:] = 1.0
    table = sp.tl.program_conditions(adata, "condition", "donor", activity=activity)
    assert (table["p"] == 1).all()
    assert (table["cell_type"] == "all cells").all()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            lambda obs: obs.assign(donor=obs["condition"]),
            {},
            "a has 1 and b has 1 sample; expected at least 2",
        ),
        (lambda obs: obs, {"conditions": ("a", "c")}, "has no condition 'c'"),
        (lambda obs: obs, {"conditions": ("a", "a")}, "expected two different"),
        (lambda obs: obs.assign(condition=obs["donor"]), {}, "holds 4 conditions"),
        (lambda obs: obs.assign(donor=obs["donor"].where(obs["type"] == "B")), {}, "is empty for"),
        (lambda obs: obs.drop(columns="donor"), {}, "no column 'donor'"),
        (lambda obs: obs, {"within": "tipe"}, "no column 'tipe'"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, arguments, message):
    adata, activity = cells(np.random.default_rng(4), n_donors=4)
    adata.obs = change(adata.obs)
    with pytest.raises(InputError, match=message):
        sp.tl.program_conditions(adata, "condition", "donor", activity=activity, **arguments)


def test_the_activity_is_that_of_the_stored_programs():
    adata, activity = cells(np.random.default_rng(5), n_donors=4)
    with pytest.raises(InputError, match="no gene programs"):
        sp.tl.program_conditions(adata, "condition", "donor")
    adata.obsm["X_beta_vsc"] = activity.to_numpy()
    summary = pd.DataFrame(
        {
            "program": [name[:-1] for name in PROGRAMS],
            "direction": "+",
            "latent": range(1, len(PROGRAMS) + 1),
        }
    )
    adata.uns["beta_vsc_programs"] = {"summary": summary, "genes": pd.DataFrame()}
    stored = sp.tl.program_conditions(adata, "condition", "donor", within="type")
    given = sp.tl.program_conditions(adata, "condition", "donor", within="type", activity=activity)
    pd.testing.assert_frame_equal(stored, given)
    with pytest.raises(InputError, match="activity has 3 rows"):
        sp.tl.program_conditions(adata, "condition", "donor", activity=activity.iloc[:3])
