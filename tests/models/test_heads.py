"""The softmax head: exact and stable."""

import torch
from torch import nn

from lm.models import SoftmaxHead, TokenEmbedding


def test_nll_is_the_closed_form_for_uniform_logits():
    head = SoftmaxHead(4, nn.Embedding(50, 4), tie_weights=False)
    nn.init.zeros_(head.decoder.weight)
    nll = head.nll(torch.randn(3, 2, 4), torch.randint(50, (3, 2)))
    torch.testing.assert_close(nll, torch.full((3, 2), torch.tensor(50.0).log().item()))


def test_nll_equals_cross_entropy_and_nll_loss_in_values_and_gradients():
    head = SoftmaxHead(6, nn.Embedding(9, 6), tie_weights=False)
    hidden, targets = torch.randn(5, 4, 6, requires_grad=True), torch.randint(9, (5, 4))
    logits = hidden @ head.decoder.weight.T + head.decoder.bias
    losses = (
        head.nll(hidden, targets).mean(),
        nn.functional.cross_entropy(logits.view(20, 9), targets.view(20)),
        nn.NLLLoss()(head.log_prob(hidden).view(20, 9), targets.view(20)),
    )
    gradients = [torch.autograd.grad(loss, hidden, retain_graph=True)[0] for loss in losses]
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(loss, losses[0])
        torch.testing.assert_close(gradient, gradients[0])


def test_stays_finite_where_log_of_softmax_is_minus_infinity():
    head = SoftmaxHead(1, nn.Embedding(3, 1), tie_weights=False)
    with torch.no_grad():
        head.decoder.weight.copy_(torch.tensor([[0.0], [500.0], [1000.0]]))
    hidden = torch.ones(1, 1, 1)
    naive = (hidden @ head.decoder.weight.T).softmax(-1).log()
    assert naive.isinf().any()
    torch.testing.assert_close(head.log_prob(hidden)[0, 0], torch.tensor([-1000.0, -500.0, 0.0]))
    assert head.nll(hidden, torch.zeros(1, 1, dtype=torch.long)).item() == 1000


def test_ignored_targets_cost_nothing_and_have_no_gradient():
    head = SoftmaxHead(4, nn.Embedding(7, 4), tie_weights=False)
    hidden = torch.randn(2, 1, 4, requires_grad=True)
    nll = head.nll(hidden, torch.tensor([[3], [-100]]))
    assert nll[1].item() == 0
    nll.sum().backward()
    assert (hidden.grad[1] == 0).all()
    assert (hidden.grad[0] != 0).any()


def test_projection_appears_only_where_tied_sizes_differ():
    assert isinstance(SoftmaxHead(4, TokenEmbedding(7, 4), tie_weights=True).projection, nn.Identity)
    assert isinstance(SoftmaxHead(4, nn.Embedding(7, 6), tie_weights=False).projection, nn.Identity)
    assert SoftmaxHead(4, TokenEmbedding(7, 6), tie_weights=True).projection.weight.shape == (6, 4)
