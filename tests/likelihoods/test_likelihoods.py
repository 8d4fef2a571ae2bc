"""Each likelihood against scipy, against sums over all counts, and at the ends of single precision.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from helpers.cells import alike, cells, generator
from sparcell.config.model import LikelihoodConfig
from sparcell.likelihoods import LIKELIHOODS, Gaussian
from sparcell.likelihoods.gaussian import LEAST_VARIANCE, MEMORY
from sparcell.likelihoods.negative_binomial import NegativeBinomialDistribution
from sparcell.likelihoods.poisson import PoissonDistribution
from sparcell.likelihoods.zero_inflated import ZeroInflatedDistribution
from sparcell.protocols import Minibatch

COUNTED = [name for name, kind in LIKELIHOODS.items() if kind.counts]
N_HIDDEN, N_GENES, N_CELLS = 3, 5, 6
DRAWS = 200_000


def made(name, *, n_batches=0, n_genes=N_GENES, dtype=torch.float64, **config):
    """A likelihood whose weights are random and large enough to matter."""
    likelihood = LIKELIHOODS[name](N_HIDDEN, n_genes, n_batches, LikelihoodConfig(**config)).to(dtype)
    source = generator(5)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=dtype))
    return likelihood


def hidden(dtype=torch.float64, n_cells=N_CELLS):
    return torch.randn(n_cells, N_HIDDEN, generator=generator(6), dtype=dtype)


def counts(dtype=torch.float64, n_genes=N_GENES, n_cells=N_CELLS):
    """Small and large ones, and many zeros."""
    rng = np.random.default_rng(7)
    x_ng = rng.poisson(rng.gamma(0.3, 20.0, size=(n_cells, n_genes)))
    assert (x_ng == 0).any()
    return torch.from_numpy(x_ng).to(dtype)


def one_hot(n_batches, n_cells=N_CELLS, dtype=torch.float64):
    return torch.eye(n_batches, dtype=dtype)[torch.arange(n_cells) % n_batches]


def linear(module, h_nh):
    return h_nh.numpy() @ module.weight.detach().numpy().T + module.bias.detach().numpy()


def scipy_log_prob(likelihood, h_nh, batch, x_ng=None):
    """Log probability of each entry, (n, g), by scipy, from the weights alone."""
    x_ng = batch.x_ng.numpy() if x_ng is None else x_ng
    mean_ng = batch.library_size_n1.numpy() * special.softmax(linear(likelihood.head, h_nh), axis=1)
    if not hasattr(likelihood, "log_r"):
        return stats.poisson(mean_ng).logpmf(x_ng), mean_ng
    log_r = likelihood.log_r.detach().numpy()
    r = np.exp(batch.batch_nb.numpy() @ log_r if len(log_r) > 1 else log_r)
    log_prob_ng = stats.nbinom(r, r / (r + mean_ng)).logpmf(x_ng)
    if not hasattr(likelihood, "drop"):
        return log_prob_ng, mean_ng
    dropped_ng = special.expit(linear(likelihood.drop, h_nh))
    zero_ng = np.log(dropped_ng + (1 - dropped_ng) * np.exp(log_prob_ng))
    return np.where(x_ng == 0, zero_ng, np.log1p(-dropped_ng) + log_prob_ng), mean_ng * (1 - dropped_ng)


CASES = [(name, "gene", 0) for name in COUNTED] + [
    (name, "gene-batch", n_batches) for name in ("nb", "zinb") for n_batches in (0, 2)
]


@pytest.mark.parametrize(("name", "dispersion", "n_batches"), CASES)
def test_nll_log_prob_and_mean_are_scipy_s(name, dispersion, n_batches):
    likelihood = made(name, n_batches=n_batches, dispersion=dispersion)
    h_nh, batch = hidden(), cells(counts(), one_hot(n_batches) if n_batches else None)
    with torch.no_grad():
        nll_n = likelihood.nll(h_nh, batch).numpy()
        distribution = likelihood.distribution(h_nh, batch)
        found_ng = distribution.log_prob(batch.x_ng).numpy()
    log_prob_ng, mean_ng = scipy_log_prob(likelihood, h_nh, batch)
    np.testing.assert_allclose(found_ng, log_prob_ng, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(nll_n, -log_prob_ng.sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(distribution.mean.numpy(), mean_ng, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_training_path_is_the_distribution_s_log_prob_summed_over_genes(name, dtype):
    likelihood, h_nh, batch = made(name, dtype=dtype).eval(), hidden(dtype), cells(counts(dtype))
    with torch.no_grad():
        nll_n = likelihood.nll(h_nh, batch)
        log_prob_ng = likelihood.distribution(h_nh, batch).log_prob(batch.x_ng)
    torch.testing.assert_close(nll_n, -log_prob_ng.sum(dim=1))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_distribution_does_not_look_at_the_cells_it_explains(name):
    likelihood, h_nh, batch = made(name), hidden(), cells(counts())
    other = Minibatch(
        torch.full_like(batch.x_ng, torch.nan), batch.library_size_n1, batch.batch_nb, batch.covariates_nc
    )
    with torch.no_grad():
        one, two = (likelihood.distribution(h_nh, given) for given in (batch, other))
    assert torch.equal(one.mean, two.mean)


@pytest.mark.parametrize("name", COUNTED)
def test_probabilities_over_all_counts_add_up_to_one_and_to_the_mean(name):
    likelihood, h_nh = made(name), hidden()
    with torch.no_grad():
        given = likelihood.distribution(h_nh, cells(counts()))
        all_counts = torch.arange(20_000, dtype=torch.float64)
        for gene in range(N_GENES):
            one = type(given)(**{key: column(value, gene) for key, value in vars(given).items()})
            probability = one.log_prob(all_counts[None]).exp()
            np.testing.assert_allclose(probability.sum(dim=1), 1, atol=1e-8)
            np.testing.assert_allclose((probability * all_counts).sum(dim=1), given.mean[:, gene], rtol=1e-5)


def column(value, gene):
    return value[:, gene : gene + 1]


@pytest.mark.parametrize("name", COUNTED)
def test_probabilities_of_the_training_path_add_up_to_one(name):
    """Of one gene beside others: exp(-nll) over its counts is the probability of the others."""
    likelihood, h_nh, batch = made(name), hidden(n_cells=1), cells(counts(n_cells=1))
    reach = 4000
    x_ng = batch.x_ng.expand(reach, -1).clone()
    x_ng[:, 0] = torch.arange(reach)
    grid = Minibatch(x_ng, batch.library_size_n1.expand(reach, 1), x_ng[:, :0], x_ng[:, :0])
    with torch.no_grad():
        total = (-likelihood.nll(h_nh.expand(reach, -1), grid)).exp().sum()
        others = likelihood.distribution(h_nh, batch).log_prob(batch.x_ng)[:, 1:].sum().exp()
    assert total.item() == pytest.approx(others.item(), rel=1e-6)


@pytest.mark.parametrize(("name", "dispersion", "n_batches"), CASES)
def test_gradients_are_those_of_finite_differences(name, dispersion, n_batches):
    """To the hidden layer and to every parameter: head, dispersion, share of dropped counts."""
    likelihood = made(name, n_batches=n_batches, dispersion=dispersion)
    batch = cells(counts(), one_hot(n_batches) if n_batches else None)
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


@pytest.mark.parametrize("name", COUNTED)
def test_both_paths_have_the_same_gradients(name):
    likelihood, batch = made(name), cells(counts())

    def gradients(loss):
        h_nh = hidden().requires_grad_()
        return torch.autograd.grad(loss(h_nh).sum(), [h_nh, *likelihood.parameters()])

    fast = gradients(lambda h_nh: likelihood.nll(h_nh, batch))
    slow = gradients(lambda h_nh: -likelihood.distribution(h_nh, batch).log_prob(batch.x_ng))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["poisson", "nb"])
def test_the_shares_of_the_genes_add_up_to_the_size(name):
    likelihood, h_nh, batch = made(name), hidden() * 5, cells(counts())
    with torch.no_grad():
        total_n1 = likelihood.distribution(h_nh, batch).mean.sum(dim=1, keepdim=True)
    torch.testing.assert_close(total_n1, batch.library_size_n1)


def test_dropped_counts_are_missing_from_the_size():
    likelihood, h_nh, batch = made("zinb"), hidden(), cells(counts())
    with torch.no_grad():
        likelihood.drop.bias.fill_(-40)
        likelihood.drop.weight.zero_()
        none_n1 = likelihood.distribution(h_nh, batch).mean.sum(dim=1, keepdim=True)
        likelihood.drop.bias.fill_(math.log(0.25 / 0.75))
        quarter_n1 = likelihood.distribution(h_nh, batch).mean.sum(dim=1, keepdim=True)
    torch.testing.assert_close(none_n1, batch.library_size_n1)
    torch.testing.assert_close(quarter_n1, 0.75 * batch.library_size_n1)


def test_a_zero_inflated_model_that_drops_nothing_is_the_negative_binomial():
    zinb, nb, h_nh, batch = made("zinb"), made("nb"), hidden(), cells(counts())
    with torch.no_grad():
        nb.head.load_state_dict(zinb.head.state_dict())
        nb.log_r.copy_(zinb.log_r)
        zinb.drop.weight.zero_()
        zinb.drop.bias.fill_(-60)
        torch.testing.assert_close(zinb.nll(h_nh, batch), nb.nll(h_nh, batch))


def test_a_negative_binomial_without_dispersion_is_poisson():
    nb, poisson, h_nh, batch = made("nb"), made("poisson"), hidden(), cells(counts())
    with torch.no_grad():
        poisson.head.load_state_dict(nb.head.state_dict())
        nb.log_r.fill_(math.log(1e9))
        torch.testing.assert_close(nb.nll(h_nh, batch), poisson.nll(h_nh, batch), rtol=1e-5, atol=1e-4)


MOMENTS = {
    "poisson": lambda m, r, share: (m, m),
    "nb": lambda m, r, share: (m, m + m**2 / r),
    "zinb": lambda m, r, share: (
        share * m,
        share * (m + m**2 / r) + share * (1 - share) * m**2,
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_draws_are_counts_with_the_distribution_s_moments_and_come_from_the_generator(name):
    likelihood, h_nh, batch = (
        made(name, dtype=torch.float32),
        hidden(torch.float32),
        cells(counts(torch.float32)),
    )
    with torch.no_grad():
        many = likelihood.distribution(h_nh[:1].expand(DRAWS, -1), alike(batch, DRAWS))
        state = torch.get_rng_state()
        x_ng = many.sample(generator(1))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(x_ng, many.sample(generator(1)))
        assert not torch.equal(x_ng, many.sample(generator(2)))
    assert torch.equal(x_ng, x_ng.round())
    assert (x_ng >= 0).all()
    double = made(name)
    _, mean_ng = scipy_log_prob(double, h_nh.double(), cells(batch.x_ng.double()))
    m_g = batch.library_size_n1.double().numpy()[0] * special.softmax(linear(double.head, h_nh.double())[0])
    r_g = double.log_r.detach().exp().numpy()[0] if hasattr(double, "log_r") else None
    kept_g = 1 - special.expit(linear(double.drop, h_nh.double())[0]) if hasattr(double, "drop") else 1.0
    mean_g, variance_g = MOMENTS[name](m_g, r_g, kept_g)
    np.testing.assert_allclose(mean_g, mean_ng[0], rtol=1e-9)
    x_ng = x_ng.double().numpy()
    error_g = np.sqrt(variance_g / DRAWS)
    assert (np.abs(x_ng.mean(axis=0) - mean_g) < 5 * error_g).all()
    squares_ng = (x_ng - mean_g) ** 2
    assert (
        np.abs(squares_ng.mean(axis=0) - variance_g) < 5 * squares_ng.std(axis=0) / math.sqrt(DRAWS)
    ).all()
    for count in (0, 1, 3):
        expected_g = np.exp(scipy_log_prob(double, h_nh.double(), cells(batch.x_ng.double()), count)[0][0])
        found_g = (x_ng == count).mean(axis=0)
        assert (np.abs(found_g - expected_g) < 5 * np.sqrt(expected_g / DRAWS) + 1e-9).all()


HARD_COUNTS = [0.0, 1.0, 7.0, 1e3, 1e5]
HARD_SIZES = [1.0, 1e3, 1e7]
HARD_LOG_R = [-15.0, -5.0, 0.0, 5.0, 15.0]


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("log_r", HARD_LOG_R)
@pytest.mark.parametrize("size", HARD_SIZES)
@pytest.mark.parametrize("name", COUNTED)
def test_value_and_gradient_are_finite_in_single_precision(name, size, log_r, scale):
    """With counts from 0 to 1e5 in one cell, a size of which they may be many times or a tiny share, and logits up to a hundred."""
    likelihood = made(name, dtype=torch.float32)
    h_nh = (hidden(torch.float32) * scale).requires_grad_()
    x_ng = torch.tensor(HARD_COUNTS).expand(N_CELLS, -1)
    batch = Minibatch(x_ng, torch.full((N_CELLS, 1), size), x_ng[:, :0], x_ng[:, :0])
    if hasattr(likelihood, "log_r"):
        with torch.no_grad():
            likelihood.log_r.fill_(log_r)
    nll_n = likelihood.nll(h_nh, batch)
    assert torch.isfinite(nll_n).all()
    nll_n.sum().backward()
    for leaf in (h_nh, *likelihood.parameters()):
        assert torch.isfinite(leaf.grad).all()
    with torch.no_grad():
        given = likelihood.distribution(h_nh, batch)
        assert torch.isfinite(given.log_prob(x_ng)).all()
        assert torch.isfinite(given.mean).all()
        assert torch.isfinite(given.sample(generator())).all()


@pytest.mark.parametrize("log_r", [-15.0, -5.0, 0.0, 5.0, 8.0])
@pytest.mark.parametrize("name", COUNTED)
def test_single_precision_is_near_double(name, log_r):
    """A cell's value to some thousandths of a nat, gradients to some of the largest."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        likelihood = made(name).to(dtype)
        if hasattr(likelihood, "log_r"):
            with torch.no_grad():
                likelihood.log_r.fill_(log_r)
        h_nh = hidden().to(dtype).requires_grad_()
        nll_n = likelihood.nll(h_nh, cells(counts().to(dtype)))
        nll_n.sum().backward()
        gradients = [h_nh.grad, *(parameter.grad for parameter in likelihood.parameters())]
        found[dtype] = nll_n.detach().double(), [gradient.double() for gradient in gradients]
    (nll_n, gradients), (exact_n, exact) = found[torch.float32], found[torch.float64]
    torch.testing.assert_close(nll_n, exact_n, rtol=1e-5, atol=3e-3)
    for one, other in zip(gradients, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=3e-3 * max(1.0, float(other.abs().max())))


def test_a_dispersion_by_gene_and_batch_differs_by_batch():
    likelihood, h_nh = made("nb", n_batches=3, dispersion="gene-batch"), hidden()
    assert likelihood.log_r.shape == (3, N_GENES)
    x_ng = counts()
    for number in range(3):
        of_one = torch.eye(3, dtype=torch.float64)[[number] * N_CELLS]
        alone = made("nb")
        with torch.no_grad():
            alone.head.load_state_dict(likelihood.head.state_dict())
            alone.log_r.copy_(likelihood.log_r[number : number + 1])
            found = likelihood.nll(h_nh, cells(x_ng, of_one))
            torch.testing.assert_close(found, alone.nll(h_nh, cells(x_ng)))


def test_a_cell_of_an_average_batch_has_the_average_log_dispersion():
    likelihood = made("zinb", n_batches=2, dispersion="gene-batch")
    shares = torch.tensor([[0.3, 0.7]], dtype=torch.float64).expand(N_CELLS, -1)
    with torch.no_grad():
        given = likelihood.distribution(hidden(), cells(counts(), shares))
        expected = 0.3 * likelihood.log_r[0] + 0.7 * likelihood.log_r[1]
    torch.testing.assert_close(given.log_r, expected.expand(N_CELLS, -1))


def test_a_dispersion_by_gene_is_the_same_in_all_batches():
    likelihood, x_ng, h_nh = made("nb", n_batches=2), counts(), hidden()
    assert likelihood.log_r.shape == (1, N_GENES)
    with torch.no_grad():
        one, other = (likelihood.nll(h_nh, cells(x_ng, shares)) for shares in (one_hot(2), 1 - one_hot(2)))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PoissonDistribution(torch.zeros(1, 1)), -1.0),
        (NegativeBinomialDistribution(torch.zeros(1, 1), torch.zeros(1)), math.log(0.5)),
        (ZeroInflatedDistribution(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1, 1)), math.log(0.75)),
    ],
    ids=COUNTED,
)
def test_the_probability_of_no_count_is_as_by_hand(given, expected):
    """Mean 1, r 1, half dropped: e^-1, 1/2, 3/4."""
    assert given.log_prob(torch.zeros(1, 1)).item() == pytest.approx(expected, rel=1e-6)


def analytic(dtype=torch.float64):
    return made("gaussian", gaussian_variance="analytic", dtype=dtype)


def squares(likelihood, h_nh, x_ng):
    return (likelihood.head(h_nh) - x_ng).square()


def test_the_analytic_variance_is_the_mean_squared_error_of_the_step():
    likelihood, h_nh, batch = analytic(), hidden(), cells(counts())
    with torch.no_grad():
        error = squares(likelihood, h_nh, batch.x_ng).mean().item()
        found = likelihood.train().nll(h_nh, batch).mean().item()
        mean_ng = likelihood.head(h_nh).numpy()
    expected = -stats.norm(mean_ng, math.sqrt(error)).logpdf(batch.x_ng.numpy()).sum(axis=1).mean()
    assert found == pytest.approx(expected, rel=1e-12)
    assert found == pytest.approx(0.5 * N_GENES * (math.log(2 * math.pi * error) + 1), rel=1e-12)


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.99, 1.01, 1.1, 2.0])
def test_no_other_variance_explains_the_step_s_cells_better(factor):
    likelihood, h_nh, batch = analytic(), hidden(), cells(counts())
    with torch.no_grad():
        best = likelihood.train().nll(h_nh, batch).mean().item()
        error = squares(likelihood, h_nh, batch.x_ng).mean().item()
        other = made("gaussian", gaussian_variance=factor * error)
        other.head.load_state_dict(likelihood.head.state_dict())
        assert other.nll(h_nh, batch).mean().item() > best


def test_the_gradient_of_the_analytic_variance_is_that_of_the_fixed_optimum():
    """So that a step weighs the squares as a Gaussian of the right width does, whatever the units (σ-VAE)."""
    likelihood, batch = analytic(), cells(counts())
    h_nh = hidden().requires_grad_()
    likelihood.train().nll(h_nh, batch).mean().backward()
    error = squares(likelihood, h_nh, batch.x_ng).mean().item()
    other = made("gaussian", gaussian_variance=error)
    h_other_nh = hidden().requires_grad_()
    other.nll(h_other_nh, batch).mean().backward()
    torch.testing.assert_close(h_nh.grad, h_other_nh.grad)
    assert torch.autograd.gradcheck(lambda h: likelihood.nll(h, batch).mean(), hidden().requires_grad_())


@pytest.mark.parametrize("unit", [0.01, 1.0, 100.0])
def test_in_other_units_the_analytic_nll_differs_by_a_constant_only(unit):
    """So beta weighs the KL against the reconstruction the same way in all units; with a fixed variance it does not."""
    likelihood, h_nh, batch = analytic(), hidden(), cells(counts())
    scaled = analytic()
    with torch.no_grad():
        for one, other in zip(scaled.parameters(), likelihood.parameters(), strict=True):
            one.copy_(other * unit)
        plain, changed = (
            model.train().nll(h, cells(x)).mean().item()
            for model, h, x in ((likelihood, h_nh, batch.x_ng), (scaled, h_nh, batch.x_ng * unit))
        )
    assert changed - plain == pytest.approx(N_GENES * math.log(unit), abs=1e-9)


def test_after_training_the_running_variance_counts():
    likelihood, h_nh, batch = analytic(), hidden(), cells(counts())
    expected = None
    assert likelihood.variance == 1
    with torch.no_grad():
        likelihood.train()
        for step in range(5):
            x_ng = batch.x_ng * (step + 1)
            now = squares(likelihood, h_nh, x_ng).mean().item()
            expected = now if expected is None else MEMORY * expected + (1 - MEMORY) * now
            likelihood.nll(h_nh, cells(x_ng))
        likelihood.eval()
        assert likelihood.variance == pytest.approx(expected, rel=1e-6)
        nll_n = likelihood.nll(h_nh, batch)
        assert likelihood.variance == pytest.approx(expected, rel=1e-6)  # not moved by looking
        mean_ng = likelihood.head(h_nh).numpy()
        given = likelihood.distribution(h_nh, batch)
    log_prob_ng = stats.norm(mean_ng, math.sqrt(likelihood.variance)).logpdf(batch.x_ng.numpy())
    np.testing.assert_allclose(nll_n, -log_prob_ng.sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(given.log_prob(batch.x_ng), log_prob_ng, rtol=1e-9)


def test_a_cell_restored_to_the_last_digit_costs_a_finite_number():
    likelihood, h_nh = analytic(torch.float32), hidden(torch.float32)
    x_ng = likelihood.head(h_nh).detach()
    nll = likelihood.train().nll(h_nh, cells(x_ng)).mean()
    assert nll.item() == pytest.approx(0.5 * N_GENES * math.log(2 * math.pi * LEAST_VARIANCE), rel=1e-5)
    nll.backward()
    assert torch.isfinite(likelihood.head.weight.grad).all()


def test_the_running_variance_is_saved_with_the_weights_and_only_where_it_is_learned():
    likelihood = analytic()
    likelihood.running.fill_(0.37)
    other = Gaussian(N_HIDDEN, N_GENES, 0, LikelihoodConfig(gaussian_variance="analytic"))
    other.load_state_dict(likelihood.state_dict())
    assert other.variance == pytest.approx(0.37)
    assert set(made("gaussian").state_dict()) == {"head.weight", "head.bias"}
    assert not list(set(dict(likelihood.named_parameters())) - {"head.weight", "head.bias"})
