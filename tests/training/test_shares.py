"""What each of several processes has of a step: cells, noise and gradients add up to those of one process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.kinds import KINDS, settings_of
from helpers.simulated import simulated_cells
from sparcell.data import sampler
from sparcell.data.covariates import Covariates
from sparcell.data.loader import Loader, TrainingData
from sparcell.data.sources import InMemoryCells
from sparcell.nn import noise
from sparcell.protocols import OwnNoise, Share
from sparcell.training.distributed import Ranks
from sparcell.training.objective import training_loss


def generator():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("share", [Share(0, 2, 5), Share(2, 3, 5), Share(5, 0, 5), Share(0, 0, 1)])
def test_a_process_gets_the_noise_that_its_cells_have_in_one_process(share):
    like, whole = torch.zeros(max(1, share.n_own), 3), torch.zeros(share.n_cells, 3)
    own = slice(share.start, share.start + share.n_own)
    for draw in (noise.normal, noise.uniform, lambda x, source: noise.integers(1000, x[:, 0], source)):
        source, alone = generator(), generator()
        found, expected = draw(like, OwnNoise(source, share)), draw(whole, alone)
        assert len(found) == len(like)
        torch.testing.assert_close(found[: share.n_own], expected[own], rtol=0, atol=0)
        assert torch.equal(source.get_state(), alone.get_state())


def gradients(network, batch, source):
    """Gradients of the weighted loss, as the training step makes it."""
    network.zero_grad()
    loss = training_loss(network(batch, source), network, batch, 1.0, label_weight=10.0)
    (batch.n_own / batch.n_cells * loss.total).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_the_gradients_of_all_processes_add_up_to_that_of_the_step(kind):
    """Of 5 cells in 8 processes, too: three of them then have a cell that does not count."""
    adata, device = simulated_cells(40), torch.device("cpu")
    x_ng = adata.X if kind[1] != "gaussian" else adata.layers["lognorm"]
    values = (
        Covariates()
        .average(40)
        ._replace(
            batch_n=np.arange(40, dtype=np.int64) % 2,
            batch_proportions_b=np.full(2, 0.5, np.float32),
            label_n=np.arange(40, dtype=np.int32) % 4 - 1,
        )
    )
    loader = Loader(InMemoryCells(x_ng), values, adata.n_vars, device)
    settings = settings_of(kind, batch_augmentation=True)
    network = settings.network(adata.n_vars, n_batches=2, n_labels=3).train()

    def steps(place):
        rows = np.arange(37)
        return list(TrainingData(loader, rows, rows[:0], 16, 0, place).batches(1, 0, 99))

    for number in (0, 2):  # 16 cells, 5 cells
        batch = steps((0, 1))[number]
        expected = gradients(network, batch, generator())
        parts = [steps((rank, 8))[number] for rank in range(8)]
        assert sum(part.n_own for part in parts) == len(batch)
        found = [gradients(network, part, OwnNoise(generator(), part.share)) for part in parts]
        for name, grad in expected.items():
            total = sum(own[name] for own in found)
            assert float((total - grad).norm()) <= 1e-5 * float(grad.norm()) + 1e-7, name


@pytest.mark.parametrize(("n_lanes", "world"), [(1, 1), (1, 3), (4, 2), (2, 4), (3, 3)])
def test_lanes_are_dealt_evenly(n_lanes, world):
    dealt = [sampler.lanes_of(rank, world, n_lanes) for rank in range(world)]
    parts = [(lane, number, n_parts) for lanes, number, n_parts in dealt for lane in lanes]
    assert {lane for lane, _, _ in parts} == set(range(n_lanes))
    assert sum(1 / n_parts for _, _, n_parts in parts) == pytest.approx(n_lanes)
    assert len(set(parts)) == len(parts)


def test_a_process_that_trains_alone_shares_nothing():
    ranks, values = Ranks(), [torch.ones(2), None]
    assert ranks.sum(values[0]) is values[0]
    assert ranks.sum_gradients(values) == values
