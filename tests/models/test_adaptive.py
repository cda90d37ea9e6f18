"""The adaptive softmax and embedding: normalised, exact, and the same by both methods."""

from functools import partial

import pytest
import torch
from torch import nn

from lm.errors import UserError
from lm.models import AdaptiveEmbedding, AdaptiveHead, CausalLM, SoftmaxHead, TokenEmbedding
from tests.conftest import V, make_core

CLUSTERS = {"cutoffs": [4, 12], "div_value": 2.0}


def make_head(tie_weights: bool = False, hidden_size: int = 8) -> AdaptiveHead:
    torch.manual_seed(0)
    embedding = AdaptiveEmbedding(V, 8, **CLUSTERS)
    head = AdaptiveHead(hidden_size, embedding, tie_weights, **CLUSTERS)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    return head


@pytest.mark.parametrize("hidden_size", [8, 6])
@pytest.mark.parametrize("tie_weights", [False, True])
def test_probabilities_sum_to_one_and_both_methods_agree(tie_weights, hidden_size):
    head = make_head(tie_weights, hidden_size)
    hidden, targets = torch.randn(7, 9, hidden_size), torch.randint(V, (7, 9))
    log_probs = head.log_prob(hidden)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(7, 9))
    torch.testing.assert_close(head.nll(hidden, targets), -log_probs.gather(-1, targets[..., None]).squeeze(-1))


def test_gradients_are_those_through_all_log_probabilities_also_of_clusters_with_many_words():
    head = make_head()
    hidden, targets = torch.randn(300, 1, 8, requires_grad=True), torch.randint(V, (300, 1))
    inputs = [hidden, *head.parameters()]
    through_all = -head.log_prob(hidden).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(
        torch.autograd.grad(head.nll(hidden, targets).mean(), inputs), torch.autograd.grad(through_all, inputs)
    )


def test_a_target_beyond_the_vocabulary_is_an_error():
    with pytest.raises(IndexError):
        make_head().nll(torch.randn(1, 1, 8), torch.tensor([[V]]))


def test_it_is_torchs_own_adaptive_softmax():
    head = make_head()
    other = nn.AdaptiveLogSoftmaxWithLoss(8, V, [4, 12], div_value=2.0, head_bias=True)
    with torch.no_grad():
        weight, bias = head._first_softmax()
        other.head.weight.copy_(weight)
        other.head.bias.copy_(bias)
        for i, tail in enumerate(other.tail, start=1):
            tail[0].weight.copy_(head.projections[i].weight)
            tail[1].weight.copy_(head.clusters[i].weight)
            head.clusters[i].bias.zero_()
    hidden, targets = torch.randn(30, 8), torch.arange(V)
    torch.testing.assert_close(head.log_prob(hidden), other.log_prob(hidden))
    torch.testing.assert_close(head.nll(hidden[:, None], targets[:, None]).squeeze(1), -other(hidden, targets).output)


@pytest.mark.parametrize("target", [0, 5, 20], ids=["first cluster", "second cluster", "third cluster"])
def test_every_parameter_gets_a_gradient_whichever_cluster_the_words_are_in(target):
    model = CausalLM(
        V,
        partial(AdaptiveEmbedding, embedding_size=8, **CLUSTERS),
        make_core("gru"),  # not every CPU has an LSTM in bfloat16
        partial(AdaptiveHead, tie_weights=False, **CLUSTERS),
    )
    for autocast in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            nll, _ = model.nll(torch.full((3, 2), target), torch.full((3, 2), target))
        nll.mean().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_ignored_targets_cost_nothing():
    head = make_head()
    nll = head.nll(torch.randn(4, 1, 8), torch.tensor([[-100], [2], [-100], [25]]))
    assert (nll.squeeze(1) == 0).tolist() == [True, False, True, False]


def test_the_embedding_looks_every_word_up_in_its_cluster():
    embedding = AdaptiveEmbedding(V, 8, **CLUSTERS)
    vectors = embedding(torch.arange(V).view(V, 1)).squeeze(1)
    first, *others = (cluster.weight for cluster in embedding.clusters)
    mapped = [projection(weight) for projection, weight in zip(embedding.projections, others, strict=True)]
    torch.testing.assert_close(vectors, torch.cat([first, *mapped]))
    assert [cluster.weight.shape for cluster in embedding.clusters] == [(4, 8), (8, 4), (18, 2)]


def test_tied_weights_are_the_embeddings():
    embedding = AdaptiveEmbedding(V, 8, **CLUSTERS)
    head = AdaptiveHead(6, embedding, tie_weights=True, **CLUSTERS)
    assert all(words.weight is cluster.weight for words, cluster in zip(head.clusters, embedding.clusters, strict=True))


def test_cutoffs_beyond_the_vocabulary_are_left_out():
    assert AdaptiveEmbedding(10, 8, [4, 12], 2.0).spans == [(0, 4, 8), (4, 10, 4)]


def test_what_does_not_fit_is_refused_by_name():
    for cutoffs in ([], [0, 5], [5, 5], [7, 3]):
        with pytest.raises(UserError, match=r"cutoffs=.*increasing"):
            AdaptiveEmbedding(V, 8, cutoffs, 2.0)
    with pytest.raises(UserError, match="vocabulary has 3 words"):
        AdaptiveEmbedding(3, 8, [4], 2.0)
    with pytest.raises(UserError, match=r"div_value=0\.5"):
        AdaptiveEmbedding(V, 8, [4], 0.5)
    with pytest.raises(UserError, match=r"4×8, 8×4, 18×2 and the embedding's 30×8: .*model/embedding=adaptive"):
        AdaptiveHead(8, TokenEmbedding(V, 8), tie_weights=True, **CLUSTERS)
    with pytest.raises(UserError, match="4×8, 8×4, 18×2 and the embedding's 5×8, 25×4"):
        AdaptiveHead(8, AdaptiveEmbedding(V, 8, [5], 2.0), tie_weights=True, **CLUSTERS)
    with pytest.raises(UserError, match=r"30×8 and the embedding's 4×8, 8×4, 18×2: .*model/head=adaptive"):
        SoftmaxHead(8, AdaptiveEmbedding(V, 8, **CLUSTERS), tie_weights=True)
