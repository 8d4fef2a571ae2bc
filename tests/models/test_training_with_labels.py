"""Training that also reads labels: what it changes, what it leaves alone, what the model keeps, and what is refused.

Suffixes: n cells, k latents, t types (labels).
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch

import sparcell as sp
from helpers.cells import cells, generator
from helpers.kinds import (
    KINDS,
    ONE_OF_EACH,
    assert_same_weights,
    fit,
    layer_of,
    learning_curve,
    settings_of,
)
from helpers.simulated import simulated_cells, two_batches
from sparcell.data.sampler import train_validation_split
from sparcell.errors import InputError
from sparcell.programs.pipeline import AUTO_SEEDS, choose_n_seeds
from sparcell.protocols import NO_LABEL
from sparcell.tl.label_classifier import LabelClassifier
from sparcell.training import loop
from sparcell.training.objective import label_loss, training_loss

KIND = ("beta-vsc", "nb")
SHORT = {"epochs": 4, "validation_fraction": 0.2}

every_kind = pytest.mark.parametrize("kind", KINDS, ids="-".join)
each_model = pytest.mark.parametrize("kind", ONE_OF_EACH, ids="-".join)


@pytest.fixture(scope="module")
def adata():
    return two_batches(300)


@pytest.fixture(scope="module")
def model(adata):
    return fit(KIND, adata, settings=SHORT, batch_key="batch", labels_key="type")


def with_labels(adata, labels):
    other = adata.copy()
    other.obs["type"] = labels
    return other


def minibatch(label_n, n_genes=5):
    batch = cells(torch.poisson(torch.full((len(label_n), n_genes), 3.0), generator=generator()))
    object.__setattr__(batch, "label_n", torch.tensor(label_n))
    return batch


def test_the_label_loss_is_the_mean_cross_entropy_with_0_for_cells_without_a_label():
    label_n = [2, NO_LABEL, 0, 1, NO_LABEL]
    network = settings_of(KIND).network(5, n_labels=3).eval()
    batch = minibatch(label_n)
    posterior = network.posterior(batch)
    weight_tk, bias_t = (p.detach().numpy().astype(float) for p in network.label_head.parameters())
    logits_nt = posterior.mean.detach().numpy().astype(float) @ weight_tk.T + bias_t
    probability_nt = np.exp(logits_nt) / np.exp(logits_nt).sum(axis=1, keepdims=True)
    expected = sum(-np.log(probability_nt[row, t]) for row, t in enumerate(label_n) if t >= 0) / 5
    assert label_loss(network.label_head, posterior, batch.label_n).item() == pytest.approx(expected)


def test_the_labels_add_their_weighted_loss_to_the_total_alone():
    network = settings_of(KIND).network(5, n_labels=3).eval()
    batch = minibatch([0, 1, 2, NO_LABEL])
    output = network(batch, generator())
    plain = training_loss(output, network, batch, 1.5, label_weight=0)
    found = training_loss(output, network, batch, 1.5, label_weight=7)
    labels = label_loss(network.label_head, output.posterior, batch.label_n)
    assert found.total.item() == pytest.approx((plain.total + 7 * labels).item())
    assert found.reconstruction == plain.reconstruction
    assert found.kl == plain.kl


def test_a_cell_without_a_label_has_no_gradient_from_the_labels():
    network = settings_of(KIND).network(5, n_labels=3).eval()
    batch = minibatch([NO_LABEL] * 4)
    loss = label_loss(network.label_head, network.posterior(batch), batch.label_n)
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())


def test_parts_of_minibatches_and_joined_ones_keep_their_labels():
    batch = minibatch([0, 1, 2, NO_LABEL])
    assert batch.part(1, 3).label_n.tolist() == [1, 2]
    assert batch.take(torch.tensor([3, 0])).label_n.tolist() == [NO_LABEL, 0]
    assert batch.part(0, 1).joined(batch.part(2, 4)).label_n.tolist() == [0, 2, NO_LABEL]
    without = cells(torch.ones(4, 5))
    assert without.part(0, 2).label_n is without.joined(without).label_n is None


@every_kind
def test_every_model_trains_with_labels_and_predicts_them(kind, adata):
    model = fit(kind, adata, settings=SHORT, batch_key="batch", labels_key="type")
    assert model.schema.labels.key == "type"
    assert model.network.label_head.weight.shape == (4, model.settings.n_latent)
    assert model.predict_labels(adata.copy()) == "type"


@each_model
def test_labels_do_not_change_a_training_that_gives_them_no_weight(kind, adata):
    settings = {**SHORT, "label_weight": 0.0}
    model = fit(kind, adata, settings=settings, labels_key="type")
    plain = fit(kind, adata, settings=settings)
    np.testing.assert_allclose(model.history["loss"], plain.history["loss"], rtol=1e-6)
    np.testing.assert_allclose(model.transform(adata), plain.transform(adata), atol=1e-4)


def with_states(seed, batch):
    """Return cells of four types, and in obs["state"] two states across the types, which few genes tell apart."""
    adata = simulated_cells(400, seed=seed)
    rng = np.random.default_rng([seed, 7])
    is_active_n = rng.random(400) < 0.5
    counts_ng = adata.X.toarray()
    counts_ng[np.ix_(is_active_n, np.arange(70, 82))] += rng.poisson(1.5, size=(is_active_n.sum(), 12))
    adata.X = type(adata.X)(counts_ng.astype(np.float32))
    adata.obs["state"], adata.obs["batch"] = np.where(is_active_n, "active", "resting"), batch
    return adata


def test_labels_that_training_read_are_found_better_in_new_cells():
    """Two latents hold the types, which differ more than the states, unless training reads the states."""
    reference, query = with_states(0, "a"), with_states(1, "b")
    settings = {"n_latent": 2, "epochs": 30, "validation_fraction": 0.1}
    fraction_right = {}
    for labels_key in (None, "state"):
        model = fit(KIND, reference, settings=settings, batch_key="batch", labels_key=labels_key)
        if labels_key is None:
            model.fit_labels(reference, "state")
        found = query.copy()
        model.map_query(found, silent=True).predict_labels(found, unknown_rate=0)
        is_right_n = found.obs["state_predicted"].astype(str) == found.obs["state"]
        fraction_right[labels_key] = is_right_n.mean()
    assert fraction_right["state"] > 0.75
    assert fraction_right[None] < 0.65


def test_cells_without_a_label_are_trained_on_and_their_labels_found(adata):
    labels = adata.obs["type"].astype(object)
    labels.iloc[:100], labels.iloc[100:200], labels.iloc[200:210] = None, "unknown", ""
    partly = with_labels(adata, labels)
    model = fit(KIND, partly, settings={"epochs": 40}, labels_key="type")
    assert model.n_cells == 300
    assert model.schema.labels.names == tuple(f"type {number}" for number in range(4))
    model.predict_labels(partly, unknown_rate=0)
    found = partly.obs["type_predicted"].astype(str)[:200]
    assert (found == adata.obs["type"].astype(str)[:200]).mean() > 0.9


def test_the_validation_cells_calibrate_since_training_did_not_read_their_labels(adata, monkeypatch):
    held_out, fit_classifier = [], LabelClassifier.fit

    def noted(z_nk, labels_n, seed=0, *, held_out_n=None):
        held_out.append(held_out_n)
        return fit_classifier(z_nk, labels_n, seed, held_out_n=held_out_n)

    monkeypatch.setattr(LabelClassifier, "fit", staticmethod(noted))
    model = fit(KIND, adata, settings=SHORT, labels_key="type")
    rows = train_validation_split(300, 0.2, model.settings.seed)[1]
    np.testing.assert_array_equal(np.flatnonzero(held_out[0]), np.sort(rows))


def test_too_few_labelled_validation_cells_are_told_and_make_nothing_more_confident(adata, caplog):
    with caplog.at_level("WARNING", logger="sparcell"):
        model = fit(KIND, adata, settings={"epochs": 30, "validation_fraction": 0.0}, labels_key="type")
    assert "since 0 validation cells have labels, probabilities are too confident" in caplog.text
    assert model.label_classifiers["type"].temperature >= 1


def test_fit_labels_says_that_training_read_these_labels(model, adata, caplog):
    again = copy.copy(model)
    with caplog.at_level("WARNING", logger="sparcell"):
        again.fit_labels(adata, "type")
        assert "if these cells were in training, probabilities are too confident" in caplog.text
        caplog.clear()
        other = adata.copy()
        other.obs["other"] = adata.obs["type"].to_numpy()
        again.fit_labels(other, "other")
    assert caplog.text == ""
    assert again.label_classifiers["type"].temperature >= 1


def test_a_type_whose_cells_are_all_validation_cells_is_learned(adata):
    rows = train_validation_split(300, 0.2, settings_of(KIND).seed)[1]
    labels = adata.obs["type"].astype(object)
    labels.iloc[rows[:5]] = "rare"
    model = fit(KIND, with_labels(adata, labels), settings=SHORT, labels_key="type")
    assert model.label_classifiers["type"].labels == ("rare", *(f"type {number}" for number in range(4)))


def test_the_validation_loss_holds_the_labels_too(adata):
    """With the same weights: the first epoch of a learning rate that moves nothing."""
    settings = {"epochs": 1, "validation_fraction": 0.2, "learning_rate": 1e-12}
    losses = [
        fit(KIND, adata, settings={**settings, "label_weight": weight}, labels_key="type").history
        for weight in (0.0, 50.0)
    ]
    for column in ("loss", "validation_loss"):
        # An untrained classifier of four types: about log 4 nats.
        difference = losses[1][column].item() - losses[0][column].item()
        assert difference == pytest.approx(50 * np.log(4), rel=0.5)


def test_a_saved_model_is_the_same_and_keeps_labels_and_classifier(model, adata, tmp_path):
    model.save(tmp_path / "m")
    again = sp.load(tmp_path / "m")
    assert again.schema == model.schema
    assert_same_weights(again, model)
    tables = []
    for one in (model, again):
        found = adata.copy()
        one.predict_labels(found)
        tables.append(found.obsm["type_probabilities"])
    pd.testing.assert_frame_equal(*tables)
    card = (tmp_path / "m/README.md").read_text()
    assert "labels in training (type) | 4: type 0, type 1" in card
    assert "labels learned" not in card
    assert "labels in training: 4 of type" in repr(model)


def test_new_batches_are_mapped_without_labels(model, adata):
    query = adata[:50].copy()
    query.obs["batch"] = "c"
    del query.obs["type"]
    mapped = model.map_query(query, silent=True)
    np.testing.assert_array_equal(mapped.transform(adata), model.transform(adata))
    assert mapped.predict_labels(query) == "type"


def test_the_same_seed_gives_the_same_bits(model, adata):
    again = fit(KIND, adata, settings=SHORT, batch_key="batch", labels_key="type")
    assert_same_weights(again, model)
    pd.testing.assert_frame_equal(learning_curve(again), learning_curve(model), check_exact=True)


def test_a_resumed_run_ends_with_the_same_bits_and_other_labels_are_another_run(
    model, adata, tmp_path, monkeypatch
):
    def interrupted(*arguments):
        if len(calls) == 9:
            raise KeyboardInterrupt
        calls.append(1)
        return training_loss(*arguments)

    calls = []
    given = {"settings": SHORT, "batch_key": "batch", "labels_key": "type", "checkpoint_dir": tmp_path / "c"}
    monkeypatch.setattr(loop, "training_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(KIND, adata, **given)
    monkeypatch.setattr(loop, "training_loss", training_loss)
    swapped = adata.obs["type"].astype(str).to_numpy()
    swapped[:2] = swapped[1::-1]
    assert swapped[0] != swapped[1]
    with pytest.raises(InputError, match="different run"):
        fit(KIND, with_labels(adata, swapped), **given)
    assert_same_weights(fit(KIND, adata, **given), model)


def test_a_file_that_stays_on_disk_trains_the_same_labels(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    path = tmp_path / "cells.h5ad"
    model = settings_of(KIND, epochs=30).fit(
        path, batch_key="batch", labels_key="type", memory="1KB", silent=True
    )
    found = adata.copy()
    model.predict_labels(found, unknown_rate=0)
    assert (found.obs["type_predicted"].astype(str) == found.obs["type"].astype(str)).mean() > 0.9
    stored = sp.io.StoredCells(path, obs_keys=["batch"])  # the column of labels is read when needed
    again = settings_of(KIND, epochs=30).fit(stored, batch_key="batch", labels_key="type", silent=True)
    assert_same_weights(again, model)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"obs has no column 'type'"),
        (["B"] * 300, r"only one label \('B'\)"),
        (["B"] * 150 + ["Unknown"] * 150, r"fewer than two labels besides missing and 'unknown'"),
        (["B", "T"] + [None] * 298, r"each of the 2 labels of obs\['type'\] has one cell"),
        ([f"cell {number}" for number in range(300)], r"a different label for each of 300 cells"),
    ],
)
def test_labels_that_say_nothing_are_refused_before_any_training(adata, labels, message, monkeypatch):
    monkeypatch.setattr(loop, "train_step", None)
    other = adata.copy()
    del other.obs["type"]
    if labels is not None:
        other.obs["type"] = labels
    with pytest.raises(InputError, match=message):
        fit(KIND, other, settings=SHORT, labels_key="type")


def test_a_negative_weight_is_refused():
    with pytest.raises(InputError, match="label_weight"):
        sp.BetaVAE(label_weight=-1)


def test_other_seeds_need_the_labels(model, adata):
    stability = sp.tl.seed_stability(model, adata, 2, silent=True)
    assert len(stability.seeds) == 2
    without = adata.copy()
    del without.obs["type"]
    renamed = with_labels(adata, [f"{label} cell" for label in adata.obs["type"]])
    for other in (without, renamed):
        with pytest.raises(InputError, match=r"trained with the labels of obs\['type'\]"):
            sp.tl.seed_stability(model, other, 2, silent=True)


def test_programs_of_cells_without_labels_train_no_other_seeds(model, adata):
    without = adata.copy()
    del without.obs["type"]
    assert choose_n_seeds(model, adata, "auto") == AUTO_SEEDS
    assert choose_n_seeds(model, without, "auto") == 1


def test_expression_can_be_trained_with_labels_too(adata):
    kind = ("autoencoder", "gaussian")
    model = fit(kind, adata, settings={"epochs": 30}, layer=layer_of(kind), labels_key="type")
    found = adata.copy()
    model.predict_labels(found, unknown_rate=0)
    assert (found.obs["type_predicted"].astype(str) == found.obs["type"].astype(str)).mean() > 0.9
