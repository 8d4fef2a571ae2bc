"""AdamW beside torch's own and beside the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sparcell.training.optimizer import AdamW

SHAPES = [(40, 7), (5,), (), (3, 2, 4), (1,)]


def random_weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def set_grads(*lists, step):
    """Give the same gradients to the weights of each list; some are far smaller than others."""
    generator = torch.Generator().manual_seed(step)
    for group in zip(*lists, strict=True):
        grad = 10.0 ** -(step % 4) * torch.randn(group[0].shape, generator=generator)
        for weight in group:
            weight.grad = grad.clone()


def grads_of(weights):
    return [weight.grad for weight in weights]


@pytest.mark.parametrize("limit", [0.0, 0.3, 1e6])
def test_steps_are_those_of_torch(limit):
    weights, expected = random_weights(), random_weights()
    optimizer = AdamW([{"params": weights}], lr=1e-2, weight_decay=0.1)
    reference = torch.optim.AdamW(expected, fused=True, lr=1e-2, weight_decay=0.1)
    for step in range(20):
        set_grads(weights, expected, step=step)
        optimizer.step(grads_of(weights), limit)
        if limit > 0:
            torch.nn.utils.clip_grad_norm_(expected, limit)
        reference.step()
    for weight, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight, other, rtol=2e-6, atol=2e-6)
        for name in ("exp_avg", "exp_avg_sq", "step"):
            moment, reference_moment = optimizer.state[weight][name], reference.state[other][name]
            torch.testing.assert_close(moment, reference_moment, rtol=2e-5, atol=1e-6)


def test_a_step_is_that_of_the_paper():
    """Loshchilov & Hutter 2019, algorithm 2, in float64 and in plain words."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = AdamW([{"params": [weight]}], lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)
    w, m, v = weight.detach().double().numpy().copy(), np.zeros(3), np.zeros(3)
    for step in range(1, 6):
        grad = np.array([0.3, -4.0, 0.0]) * step
        optimizer.step([torch.tensor(grad, dtype=torch.float32)], 2.0)
        g = grad * min(1, 2 / math.sqrt((grad**2).sum()))
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        mean, spread = m / (1 - 0.8**step), np.sqrt(v / (1 - 0.95**step))
        w = w - 0.1 * 0.2 * w - 0.1 * mean / (spread + 1e-3)
        np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-5)


def test_groups_keep_their_own_learning_rates_and_a_weight_without_a_gradient_stays():
    weights, expected = random_weights(), random_weights()
    groups, reference_groups = (
        [{"params": some[:2], "lr": 1e-2}, {"params": some[2:], "lr": 1e-1}] for some in (weights, expected)
    )
    optimizer = AdamW(groups, lr=1e-3, weight_decay=0.01)
    reference = torch.optim.AdamW(reference_groups, fused=True)
    for step in range(6):
        set_grads(weights, expected, step=step)
        if step in (0, 3):  # so that its count of steps is behind the others'
            weights[1].grad = expected[1].grad = None
        for group in (*optimizer.param_groups, *reference.param_groups):
            group["lr"] *= 0.9
        optimizer.step(grads_of(weights))
        reference.step()
    assert optimizer.state[weights[1]]["step"] == 4
    for weight, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight, other, rtol=2e-6, atol=2e-6)


def test_a_gradient_that_is_not_finite_leaves_weights_that_are_not():
    """The run goes back then: nothing may hide it."""
    for value in (math.nan, math.inf):
        weights = random_weights()
        optimizer = AdamW([{"params": weights}], lr=1e-3)
        for step in range(2):
            set_grads(weights, step=step)
            if step:
                weights[0].grad[3, 2] = value
            optimizer.step(grads_of(weights), 0.3)
        assert not math.isfinite(weights[0].sum().item())
