"""The loops that make Adam's steps on the CPU, beside torch's own and beside the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sparcell.kernels import AdamW, adam, team

SHAPES = [(40, 7), (5,), (), (3, 2, 4), (1,)]


def weights_of(shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_slopes(*lists, step, scale=1.0):
    """The same slopes to the weights of each list; some far smaller than others."""
    generator = torch.Generator().manual_seed(step)
    for group in zip(*lists, strict=True):
        slope = scale * 10.0 ** -(step % 4) * torch.randn(group[0].shape, generator=generator)
        for weight in group:
            weight.grad = slope.clone()


def slopes_of(weights):
    return [weight.grad for weight in weights]


def trained(limit, n_steps=20, block=adam.BLOCK, shapes=SHAPES, monkeypatch=None, **settings):
    """Weights moved by our loops and by torch; the latter twice with float64 as a measure of its rounding."""
    if monkeypatch is not None:
        monkeypatch.setattr(adam, "BLOCK", block)
    ours, torchs = weights_of(shapes), weights_of(shapes)
    settings = {"lr": 1e-2, "weight_decay": 0.1} | settings
    by_loops, by_torch = (
        AdamW([{"params": ours}], **settings),
        torch.optim.AdamW(torchs, fused=True, **settings),
    )
    for step in range(n_steps):
        give_slopes(ours, torchs, step=step)
        by_loops.along(slopes_of(ours), limit)
        if limit > 0:
            torch.nn.utils.clip_grad_norm_(torchs, limit)
        by_torch.step()
    return by_loops, by_torch, ours, torchs


@pytest.mark.parametrize("limit", [0.0, 0.3, 1e6])
@pytest.mark.parametrize("block", [adam.BLOCK, 16, 1])
def test_the_loops_make_the_steps_of_torch(limit, block, monkeypatch):
    by_loops, by_torch, ours, torchs = trained(limit, block=block, monkeypatch=monkeypatch)
    for own, other in zip(ours, torchs, strict=True):
        torch.testing.assert_close(own, other, rtol=2e-6, atol=2e-6)
        for name in ("exp_avg", "exp_avg_sq", "step"):
            found, expected = by_loops.state[own][name], by_torch.state[other][name]
            torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)


def test_the_loops_are_what_makes_all_steps_but_the_first(monkeypatch):
    made, real = [], adam.adamw
    monkeypatch.setattr(
        adam, "adamw", lambda *given, **settings: made.append(given) or real(*given, **settings)
    )
    trained(0.3, n_steps=5)
    assert len(made) == 1


def test_a_step_is_that_of_the_paper():
    """Loshchilov & Hutter 2019, algorithm 2, in float64 and in plain words."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimiser = AdamW([{"params": [weight]}], lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)
    w, m, v = weight.detach().double().numpy().copy(), np.zeros(3), np.zeros(3)
    for step in range(1, 6):
        slope = np.array([0.3, -4.0, 0.0]) * step
        weight.grad = torch.tensor(slope, dtype=torch.float32)
        optimiser.along([weight.grad], 2.0)
        g = slope * min(1, 2 / math.sqrt((slope**2).sum()))
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        ahead, spread = m / (1 - 0.8**step), np.sqrt(v / (1 - 0.95**step))
        w = w - 0.1 * 0.2 * w - 0.1 * ahead / (spread + 1e-3)
        np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-5)


def test_groups_keep_their_own_step_sizes_and_a_weight_without_a_slope_stays():
    def start():
        weights = weights_of()
        groups = [{"params": weights[:2], "lr": 1e-2}, {"params": weights[2:], "lr": 1e-1}]
        return weights, groups

    (ours, own), (torchs, other) = start(), start()
    by_loops, by_torch = AdamW(own, lr=1e-3, weight_decay=0.01), torch.optim.AdamW(other, fused=True)
    for step in range(6):
        give_slopes(ours, torchs, step=step)
        if step in (0, 3):  # so that its count of steps is behind the others'
            ours[1].grad = torchs[1].grad = None
        for group in (*by_loops.param_groups, *by_torch.param_groups):
            group["lr"] *= 0.9
        by_loops.along(slopes_of(ours), 0.0)
        by_torch.step()
    assert by_loops.state[ours[1]]["step"] == 4
    for own_weight, other_weight in zip(ours, torchs, strict=True):
        torch.testing.assert_close(own_weight, other_weight, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("lost", ["dtype", "layout"])
def test_what_the_loops_cannot_do_torch_does(lost):
    def start():
        return torch.nn.Parameter(torch.ones(4, 3, dtype=torch.float64 if lost == "dtype" else torch.float32))

    ours, torchs = start(), start()
    by_loops, by_torch = (
        AdamW([{"params": [ours]}], lr=1e-3, weight_decay=0.01),
        torch.optim.AdamW([torchs], fused=True),
    )
    for step in range(4):
        slope = torch.arange(12.0, dtype=ours.dtype).reshape(3, 4).t() * (step + 1)
        for weight in (ours, torchs):
            weight.grad = slope.clone(memory_format=torch.preserve_format)
        by_loops.along([ours.grad], 0.0)
        by_torch.step()
    torch.testing.assert_close(ours, torchs, rtol=0, atol=0)


def test_memory_that_came_to_lie_elsewhere_is_found():
    """Going back to an earlier state may give Adam new tensors."""
    by_loops, by_torch, ours, torchs = trained(0.0, n_steps=3)
    for memory in by_loops.state.values():
        memory |= {name: value.clone() for name, value in memory.items()}
    ours[0].data = ours[0].data.clone()
    for step in range(3, 6):
        give_slopes(ours, torchs, step=step)
        by_loops.along(slopes_of(ours), 0.0)
        by_torch.step()
    for own, other in zip(ours, torchs, strict=True):
        torch.testing.assert_close(own, other, rtol=2e-6, atol=2e-6)


def test_the_same_bits_with_any_number_of_threads(monkeypatch):
    found = []
    for n_threads in (1, 3):
        monkeypatch.setattr(team, "n_threads", lambda n=n_threads: n)
        *_, ours, _ = trained(0.3, block=16, monkeypatch=monkeypatch)
        found.append(torch.cat([weight.detach().ravel() for weight in ours]))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_gradient_that_is_not_finite_leaves_weights_that_are_not():
    """So that the run goes back: nothing may hide it."""
    for value in (math.nan, math.inf):
        _, _, ours, _ = trained(0.3, n_steps=2)
        optimiser = AdamW([{"params": ours}], lr=1e-3)
        for step in range(2):
            give_slopes(ours, step=step)
            if step:
                ours[0].grad[3, 2] = value
            optimiser.along(slopes_of(ours), 0.3)
        assert not math.isfinite(ours[0].sum().item())
