"""Each likelihood against scipy, against sums over all counts, and by its draws.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special

from helpers.cells import cells, first_cell_repeated, generator, with_x
from helpers.likelihoods import (
    COUNT_LIKELIHOODS,
    N_CELLS,
    N_GENES,
    hidden,
    linear,
    one_hot,
    random_counts,
    random_likelihood,
    scipy_log_prob,
)
from sparcell.likelihoods import LIKELIHOODS
from sparcell.likelihoods.negative_binomial import NegativeBinomialDistribution
from sparcell.likelihoods.poisson import PoissonDistribution
from sparcell.likelihoods.zero_inflated import ZeroInflatedDistribution

N_DRAWS = 200_000


CASES = [(name, "gene", 0) for name in COUNT_LIKELIHOODS] + [
    (name, "gene-batch", n_batches) for name in ("nb", "zinb") for n_batches in (0, 2)
]


@pytest.mark.parametrize(("name", "dispersion", "n_batches"), CASES)
def test_nll_log_prob_and_mean_are_those_of_scipy(name, dispersion, n_batches):
    likelihood = random_likelihood(name, n_batches=n_batches, dispersion=dispersion)
    h_nh, batch = hidden(), cells(random_counts(), one_hot(n_batches) if n_batches else None)
    with torch.no_grad():
        nll_n = likelihood.nll(h_nh, batch).numpy()
        distribution = likelihood.distribution(h_nh, batch)
        by_distribution_ng = distribution.log_prob(batch.x_ng).numpy()
    log_prob_ng, mean_ng = scipy_log_prob(likelihood, h_nh, batch)
    np.testing.assert_allclose(by_distribution_ng, log_prob_ng, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(nll_n, -log_prob_ng.sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(distribution.mean.numpy(), mean_ng, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_nll_is_minus_the_log_prob_of_the_distribution_summed_over_genes(name, dtype):
    likelihood, h_nh, batch = (
        random_likelihood(name, dtype=dtype).eval(),
        hidden(dtype),
        cells(random_counts(dtype)),
    )
    with torch.no_grad():
        nll_n = likelihood.nll(h_nh, batch)
        log_prob_ng = likelihood.distribution(h_nh, batch).log_prob(batch.x_ng)
    torch.testing.assert_close(nll_n, -log_prob_ng.sum(dim=1))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_distribution_does_not_read_x(name):
    likelihood, h_nh, batch = random_likelihood(name), hidden(), cells(random_counts())
    other = with_x(batch, torch.full_like(batch.x_ng, torch.nan))
    with torch.no_grad():
        one, two = (likelihood.distribution(h_nh, cells_) for cells_ in (batch, other))
    assert torch.equal(one.mean, two.mean)


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_probabilities_of_all_counts_add_up_to_one_and_give_the_mean(name):
    likelihood, h_nh = random_likelihood(name), hidden()
    with torch.no_grad():
        distribution = likelihood.distribution(h_nh, cells(random_counts()))
        all_counts = torch.arange(20_000, dtype=torch.float64)
        for gene in range(N_GENES):
            one = type(distribution)(
                **{key: column(value, gene) for key, value in vars(distribution).items()}
            )
            probability = one.log_prob(all_counts[None]).exp()
            np.testing.assert_allclose(probability.sum(dim=1), 1, atol=1e-8)
            np.testing.assert_allclose(
                (probability * all_counts).sum(dim=1), distribution.mean[:, gene], rtol=1e-5
            )


def column(value, gene):
    return value[:, gene : gene + 1]


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_exp_minus_nll_over_all_counts_of_a_gene_adds_up_to_the_probability_of_the_others(name):
    """This checks the training path, which has no log probability of single genes."""
    likelihood, h_nh, batch = random_likelihood(name), hidden(n_cells=1), cells(random_counts(n_cells=1))
    reach = 4000
    x_ng = batch.x_ng.expand(reach, -1).clone()
    x_ng[:, 0] = torch.arange(reach)
    grid = with_x(first_cell_repeated(batch, reach), x_ng)
    with torch.no_grad():
        total = (-likelihood.nll(h_nh.expand(reach, -1), grid)).exp().sum()
        others = likelihood.distribution(h_nh, batch).log_prob(batch.x_ng)[:, 1:].sum().exp()
    assert total.item() == pytest.approx(others.item(), rel=1e-6)


@pytest.mark.parametrize(("name", "dispersion", "n_batches"), CASES)
def test_gradients_pass_gradcheck(name, dispersion, n_batches):
    """Gradients of the hidden layer and of every parameter: head, dispersion, logit of dropout."""
    likelihood = random_likelihood(name, n_batches=n_batches, dispersion=dispersion)
    batch = cells(random_counts(), one_hot(n_batches) if n_batches else None)
    leaves = dict(likelihood.named_parameters())
    assert ("log_r" in leaves) == (name != "poisson")

    def nll(h_nh, *values):
        with torch.nn.utils.stateless._reparametrize_module(
            likelihood, dict(zip(leaves, values, strict=True))
        ):
            return likelihood.nll(h_nh, batch)

    inputs = (
        hidden().requires_grad_(),
        *(value.detach().clone().requires_grad_() for value in leaves.values()),
    )
    assert torch.autograd.gradcheck(nll, inputs)


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_nll_and_distribution_have_the_same_gradients(name):
    likelihood, batch = random_likelihood(name), cells(random_counts())

    def gradients(loss):
        h_nh = hidden().requires_grad_()
        return torch.autograd.grad(loss(h_nh).sum(), [h_nh, *likelihood.parameters()])

    fast = gradients(lambda h_nh: likelihood.nll(h_nh, batch))
    slow = gradients(lambda h_nh: -likelihood.distribution(h_nh, batch).log_prob(batch.x_ng))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["poisson", "nb"])
def test_the_means_of_the_genes_add_up_to_the_library_size(name):
    likelihood, h_nh, batch = random_likelihood(name), hidden() * 5, cells(random_counts())
    with torch.no_grad():
        total_n1 = likelihood.distribution(h_nh, batch).mean.sum(dim=1, keepdim=True)
    torch.testing.assert_close(total_n1, batch.library_size_n1)


def test_zero_inflation_lowers_the_sum_of_the_means():
    likelihood, h_nh, batch = random_likelihood("zinb"), hidden(), cells(random_counts())
    with torch.no_grad():
        likelihood.drop.bias.fill_(-40)
        likelihood.drop.weight.zero_()
        none_n1 = likelihood.distribution(h_nh, batch).mean.sum(dim=1, keepdim=True)
        likelihood.drop.bias.fill_(math.log(0.25 / 0.75))
        quarter_n1 = likelihood.distribution(h_nh, batch).mean.sum(dim=1, keepdim=True)
    torch.testing.assert_close(none_n1, batch.library_size_n1)
    torch.testing.assert_close(quarter_n1, 0.75 * batch.library_size_n1)


def test_zero_inflation_with_probability_0_is_the_negative_binomial():
    zinb, nb, h_nh, batch = (
        random_likelihood("zinb"),
        random_likelihood("nb"),
        hidden(),
        cells(random_counts()),
    )
    with torch.no_grad():
        nb.head.load_state_dict(zinb.head.state_dict())
        nb.log_r.copy_(zinb.log_r)
        zinb.drop.weight.zero_()
        zinb.drop.bias.fill_(-60)
        torch.testing.assert_close(zinb.nll(h_nh, batch), nb.nll(h_nh, batch))


def test_a_negative_binomial_without_dispersion_is_poisson():
    nb, poisson, h_nh, batch = (
        random_likelihood("nb"),
        random_likelihood("poisson"),
        hidden(),
        cells(random_counts()),
    )
    with torch.no_grad():
        poisson.head.load_state_dict(nb.head.state_dict())
        nb.log_r.fill_(math.log(1e9))
        torch.testing.assert_close(nb.nll(h_nh, batch), poisson.nll(h_nh, batch), rtol=1e-5, atol=1e-4)


MOMENTS = {
    "poisson": lambda m, r, fraction: (m, m),
    "nb": lambda m, r, fraction: (m, m + m**2 / r),
    "zinb": lambda m, r, fraction: (
        fraction * m,
        fraction * (m + m**2 / r) + fraction * (1 - fraction) * m**2,
    ),
}


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_draws_are_counts_with_the_moments_of_the_distribution(name):
    likelihood, h_nh, batch = (
        random_likelihood(name, dtype=torch.float32),
        hidden(torch.float32),
        cells(random_counts(torch.float32)),
    )
    with torch.no_grad():
        many = likelihood.distribution(h_nh[:1].expand(N_DRAWS, -1), first_cell_repeated(batch, N_DRAWS))
        state = torch.get_rng_state()
        x_ng = many.sample(generator(1))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(x_ng, many.sample(generator(1)))
        assert not torch.equal(x_ng, many.sample(generator(2)))
    assert torch.equal(x_ng, x_ng.round())
    assert (x_ng >= 0).all()
    double = random_likelihood(name)
    _, mean_ng = scipy_log_prob(double, h_nh.double(), cells(batch.x_ng.double()))
    m_g = batch.library_size_n1.double().numpy()[0] * special.softmax(linear(double.head, h_nh.double())[0])
    r_g = double.log_r.detach().exp().numpy()[0] if hasattr(double, "log_r") else None
    not_dropped_g = (
        1 - special.expit(linear(double.drop, h_nh.double())[0]) if hasattr(double, "drop") else 1.0
    )
    mean_g, variance_g = MOMENTS[name](m_g, r_g, not_dropped_g)
    np.testing.assert_allclose(mean_g, mean_ng[0], rtol=1e-9)
    x_ng = x_ng.double().numpy()
    error_g = np.sqrt(variance_g / N_DRAWS)
    assert (np.abs(x_ng.mean(axis=0) - mean_g) < 5 * error_g).all()
    squares_ng = (x_ng - mean_g) ** 2
    assert (
        np.abs(squares_ng.mean(axis=0) - variance_g) < 5 * squares_ng.std(axis=0) / math.sqrt(N_DRAWS)
    ).all()
    for count in (0, 1, 3):
        expected_g = np.exp(scipy_log_prob(double, h_nh.double(), cells(batch.x_ng.double()), count)[0][0])
        found_g = (x_ng == count).mean(axis=0)
        assert (np.abs(found_g - expected_g) < 5 * np.sqrt(expected_g / N_DRAWS) + 1e-9).all()


def test_dispersion_gene_batch_differs_by_batch():
    likelihood, h_nh = random_likelihood("nb", n_batches=3, dispersion="gene-batch"), hidden()
    assert likelihood.log_r.shape == (3, N_GENES)
    x_ng = random_counts()
    for number in range(3):
        of_one = torch.eye(3, dtype=torch.float64)[[number] * N_CELLS]
        alone = random_likelihood("nb")
        with torch.no_grad():
            alone.head.load_state_dict(likelihood.head.state_dict())
            alone.log_r.copy_(likelihood.log_r[number : number + 1])
            nll_n = likelihood.nll(h_nh, cells(x_ng, of_one))
            torch.testing.assert_close(nll_n, alone.nll(h_nh, cells(x_ng)))


def test_an_average_cell_has_the_mean_log_dispersion_of_the_batches():
    likelihood = random_likelihood("zinb", n_batches=2, dispersion="gene-batch")
    proportions = torch.tensor([[0.3, 0.7]], dtype=torch.float64).expand(N_CELLS, -1)
    with torch.no_grad():
        distribution = likelihood.distribution(hidden(), cells(random_counts(), proportions))
        expected = 0.3 * likelihood.log_r[0] + 0.7 * likelihood.log_r[1]
    torch.testing.assert_close(distribution.log_r, expected.expand(N_CELLS, -1))


def test_dispersion_gene_is_the_same_in_all_batches():
    likelihood, x_ng, h_nh = random_likelihood("nb", n_batches=2), random_counts(), hidden()
    assert likelihood.log_r.shape == (1, N_GENES)
    with torch.no_grad():
        one, other = (
            likelihood.nll(h_nh, cells(x_ng, batch_nb)) for batch_nb in (one_hot(2), 1 - one_hot(2))
        )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (PoissonDistribution(torch.zeros(1, 1)), -1.0),
        (NegativeBinomialDistribution(torch.zeros(1, 1), torch.zeros(1)), math.log(0.5)),
        (ZeroInflatedDistribution(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1, 1)), math.log(0.75)),
    ],
    ids=COUNT_LIKELIHOODS,
)
def test_the_probability_of_a_count_of_0_is_that_by_hand(distribution, expected):
    """Mean 1, r 1, half dropped: e^-1, 1/2, 3/4."""
    assert distribution.log_prob(torch.zeros(1, 1)).item() == pytest.approx(expected, rel=1e-6)
