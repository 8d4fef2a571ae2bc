"""What every model promises, over every likelihood: data that is refused before training."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from helpers.kinds import COUNT_KINDS, GAUSSIAN_KINDS, fit, fitted, matrix_of, with_matrix
from helpers.simulated import simulated_cells
from helpers.unchanged import assert_unchanged
from sparcell.errors import InputError
from sparcell.models import MODELS

gaussian_kinds = pytest.mark.parametrize("kind", GAUSSIAN_KINDS, ids="-".join)


count_kinds = pytest.mark.parametrize("kind", COUNT_KINDS, ids="-".join)


def assert_refused(kind, adata, message, **keywords):
    """Assert that `fit` refuses the data with a message before any epoch and changes nothing."""
    before, records = adata.copy(), []
    with pytest.raises(InputError, match=message):
        fit(kind, adata, on_epoch=records.append, **keywords)
    assert records == []
    assert_unchanged(adata, before)


def test_fewer_cells_than_batch_size_are_refused(kind, adata):
    message = r"300 cells, fewer than batch_size \(301\).*set batch_size to 300 or less"
    assert_refused(kind, adata, message, settings={"batch_size": 301})


BROKEN = {
    "scaled": (lambda x_ng: (x_ng - x_ng.mean(axis=0)) / (x_ng.std(axis=0) + 1), "below 0"),
    "negative": (lambda x_ng: np.where(x_ng == x_ng.max(), -1, x_ng), "below 0"),
    "nan": (lambda x_ng: np.where(x_ng == x_ng.max(), np.nan, x_ng), "1 missing or infinite value"),
    "inf": (lambda x_ng: np.where(x_ng == x_ng.max(), np.inf, x_ng), "1 missing or infinite value"),
    "normalized": (lambda x_ng: x_ng / x_ng.sum(axis=1, keepdims=True) * 1e4, "normalized.*not logged"),
    "empty": (lambda x_ng: x_ng * (np.arange(300) != 7)[:, None], "1 cell.*without a single count.*'cell7'"),
    "text": (lambda x_ng: x_ng.astype(str), "expected real numbers"),
}
"""Data that every model refuses: how to compute it from what a kind reads, and the message."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_layer_is_refused(kind, name):
    make, message = BROKEN[name]
    adata = simulated_cells()
    adata.layers["broken"] = make(matrix_of(kind, adata))
    assert_refused(kind, adata, message, layer="broken")


@pytest.mark.parametrize("name", ["scaled", "nan", "normalized", "empty"])
def test_a_fitted_model_refuses_a_broken_layer(kind, model, adata, name):
    make, message = BROKEN[name]
    other = with_matrix(kind, adata, make(matrix_of(kind, adata)))
    for use in (model.transform, model.reconstruct, model.score, model.marginal_log_likelihood, model.embed):
        with pytest.raises(InputError, match=message):
            use(other)
    assert set(other.obsm) == {"X_other"}


@count_kinds
def test_a_count_model_refuses_log_normalized_values(kind, adata):
    message = r"layers\['lognorm'\] holds log-normalized values .*expected counts.*give the raw counts"
    assert_refused(kind, adata, message, layer="lognorm")
    model, other = fitted(kind), with_matrix(kind, adata, adata.layers["lognorm"])
    for use in (model.transform, model.reconstruct, model.score):
        with pytest.raises(InputError, match=r"X holds log-normalized values .*expected counts"):
            use(other)


@count_kinds
@pytest.mark.parametrize("options", [{"log_normalize": True}, {"scale": True}])
def test_a_count_model_refuses_log_normalize_and_scale(kind, adata, options):
    message = r"a model of counts reads raw counts; expected log_normalize and scale to be left out, or likelihood='gaussian'"
    assert_refused(kind, adata, message, **options)


@gaussian_kinds
def test_a_gaussian_model_refuses_the_other_kind_of_data(kind, adata):
    assert_refused(kind, adata, "holds counts.*expected log-normalized", layer=None, log_normalize=False)
    assert_refused(kind, adata, "holds log-normalized.*expected counts", log_normalize=True)
    model, other = fitted(kind), with_matrix(kind, adata, adata.X)
    with pytest.raises(InputError, match=r"layers\['lognorm'\] holds counts.*expected log-normalized"):
        model.transform(other)


def test_an_unknown_layer_or_column_is_refused_with_the_nearest_name(kind, adata):
    assert_refused(kind, adata, "no layer 'lognrm' in the data; did you mean 'lognorm'", layer="lognrm")
    assert_refused(kind, adata, "no column 'markd' in var.*did you mean 'marked'", genes_key="markd")


def test_a_genes_key_that_chooses_no_gene_is_refused(kind):
    adata = simulated_cells()
    adata.var["none"], adata.var["name"] = False, "a"
    assert_refused(kind, adata, "chooses no gene", genes_key="none")
    assert_refused(kind, adata, "expected true or false", genes_key="name")


def repeated_gene(adata):
    names = ["gene0", *adata.var_names[:-1]]
    return ad.AnnData(adata.X, obs=adata.obs, var=pd.DataFrame(index=names), layers=dict(adata.layers))


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_repeated_gene_names_are_refused(kind):
    adata = repeated_gene(simulated_cells())
    assert_refused(kind, adata, "gene name 'gene0' occurs more than once.*var_names_make_unique")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_repeated_gene_names_are_refused_by_a_fitted_model(model, adata):
    other = repeated_gene(adata)
    with pytest.raises(InputError, match="gene name 'gene0' occurs more than once"):
        model.transform(other)


def test_no_x_and_no_layer_is_refused(kind, adata):
    bare = ad.AnnData(obs=adata.obs.copy(), var=adata.var.copy(), layers={"lognorm": adata.layers["lognorm"]})
    with pytest.raises(InputError, match="X is empty"):
        fit(kind, bare, layer=None)


@pytest.mark.parametrize("name", MODELS)
def test_an_unknown_likelihood_is_refused_by_name(name):
    with pytest.raises(
        InputError, match="likelihood is 'poison'; expected one of auto, gaussian, poisson, nb, zinb"
    ):
        MODELS[name](likelihood="poison")
