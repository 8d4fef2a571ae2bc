"""One optimizer step, computed by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from helpers.cells import cells, generator
from helpers.kinds import settings_of
from sparcell.training import loop
from sparcell.training.cuda_graph import CudaGraphStep
from sparcell.training.objective import training_loss
from sparcell.training.optimizer import AdamW
from sparcell.training.plan import TrainPlan
from sparcell.training.state import TrainState


class OneStep:
    """Provides a single minibatch."""

    n_steps = 1

    def __init__(self, batch):
        self.batch = batch

    def batches(self, epoch, first, last):
        return [self.batch]


def one_step(*, max_grad_norm=0.0, weight_decay=0.0, scale=1.0):
    """Return the weights before and after one step, the gradients of that step, and the state."""
    kind = ("autoencoder", "gaussian")
    settings = settings_of(kind, max_grad_norm=max_grad_norm, weight_decay=weight_decay, epochs=1)
    network = settings.network(5)
    batch = cells(torch.randn(8, 5, generator=generator()) * scale)
    loss = training_loss(network(batch, generator()), network, batch, 1.0, label_weight=0)
    grads = torch.autograd.grad(loss.total, list(network.parameters()))
    before = [value.detach().clone() for value in network.parameters()]
    state, plan = TrainState.start(network, settings, generator()), TrainPlan.of(settings, 1, 1.0)
    step = CudaGraphStep(state, partial(loop.train_step, state, plan), 8)
    loop.run_steps(step, state, OneStep(batch), plan, 0)
    return before, list(network.parameters()), grads, state


def test_the_first_step_is_that_of_adam():
    """It is the learning rate times the sign of the gradient, but for Adam's epsilon."""
    before, after, grads, _ = one_step()
    for old, new, grad in zip(before, after, grads, strict=True):
        np.testing.assert_allclose((new - old).detach(), -0.003 * grad / (grad.abs() + 1e-8), atol=1e-6)


def test_weight_decay_subtracts_a_fraction_of_each_weight():
    plain, decayed = one_step(), one_step(weight_decay=0.5)
    for old, new, other in zip(plain[0], plain[1], decayed[1], strict=True):
        np.testing.assert_allclose((new - other).detach(), 0.5 * 0.003 * old, atol=1e-7)


def test_adam_gets_contiguous_weights_and_gradients(monkeypatch):
    """Torch's fused function copies gradients that are not stored row by row and does not use the copy."""
    contiguous, along = [], AdamW.step

    def recording(self, grads, max_norm):
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for weight, grad in zip(weights, grads, strict=True):
            contiguous.append(weight.is_contiguous() and grad.is_contiguous() and grad.shape == weight.shape)
        return along(self, grads, max_norm)

    monkeypatch.setattr(AdamW, "step", recording)
    _, after, _, state = one_step()
    assert not all(weight.is_contiguous() for weight in after)
    assert all(contiguous)
    assert len(contiguous) == len(after)
    tensors = state.tensors()
    for number, weight in enumerate(state.weights):
        assert tensors[f"adam.{number}.exp_avg"].shape == weight.shape


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.5, 1e9])
def test_a_gradient_above_max_grad_norm_is_scaled_to_it(max_grad_norm):
    """Adam's first moment after one step is a tenth of the gradient that Adam got."""
    _, _, grads, state = one_step(max_grad_norm=max_grad_norm, scale=50.0)
    tensors = state.tensors()
    used = torch.cat([10 * tensors[f"adam.{n}.exp_avg"].ravel() for n in range(len(grads))])
    whole = torch.cat([grad.ravel() for grad in reversed(grads)])  # the encoder is Adam's last
    assert whole.norm() > 100
    norm = min(max_grad_norm, whole.norm().item()) if max_grad_norm else whole.norm().item()
    assert used.norm().item() == pytest.approx(norm, rel=1e-4)
    torch.testing.assert_close(used / used.norm(), whole / whole.norm(), rtol=1e-4, atol=1e-6)


def test_a_gradient_below_max_grad_norm_is_unchanged():
    _, after, grads, _ = one_step(max_grad_norm=1e6)
    assert torch.cat([grad.ravel() for grad in grads]).norm() < 1e6
    for one, other in zip(after, one_step()[1], strict=True):
        assert torch.equal(one, other)
