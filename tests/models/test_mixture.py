"""The mixture of softmaxes against its definition, over all words and over a sample of them."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lm.errors import UserError
from lm.models import MixtureHead, SoftmaxHead, TokenEmbedding
from lm.models.sampled import EXCLUDED
from lm.ops import IGNORE_INDEX

V, H, E, K = 90, 6, 5, 3


def make_head(tie_weights: bool = False, num_experts: int = K, num_sampled: int | None = None) -> MixtureHead:
    torch.manual_seed(0)
    sizes = {"num_experts": num_experts, "num_frequent": 10, "num_sampled": num_sampled}
    head = MixtureHead(H, TokenEmbedding(V, E), tie_weights, latent_dropout=0.0, **sizes)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.double()


def window() -> tuple[Tensor, Tensor]:
    """Outputs `[4, 2, H]` and targets `[4, 2]`, one of them ignored."""
    torch.manual_seed(1)
    hidden, targets = torch.randn(4, 2, H, dtype=torch.float64), torch.randint(V, (4, 2))
    targets[3, 1] = IGNORE_INDEX
    return hidden.requires_grad_(), targets


def plain_log_prob(head: MixtureHead, hidden: Tensor, words: Tensor | None = None, corrections: Tensor | float = 0):
    """From all of `[T, B, K, V]`, or that of some words."""
    latents = head.latent(hidden).tanh().view(*hidden.shape[:2], head.num_experts, E)
    logits = latents @ head.decoder.weight.T + head.decoder.bias
    logits = (logits if words is None else logits[..., words]) + corrections
    return (head.prior(hidden).softmax(-1).unsqueeze(-1) * logits.softmax(-1)).sum(-2).log()


def assert_same(head: MixtureHead, hidden: Tensor, ours: Tensor, theirs: Tensor) -> None:
    """Values, and the gradients of everything."""
    inputs = [hidden, *head.parameters()]
    torch.testing.assert_close(ours, theirs)
    losses = ours.square().sum(), theirs.square().sum()
    torch.testing.assert_close(*(torch.autograd.grad(loss, inputs, retain_graph=True) for loss in losses))


@pytest.mark.parametrize("tie_weights", [False, True])
def test_both_methods_are_the_plain_mixture_in_values_and_gradients(tie_weights):
    head, (hidden, targets) = make_head(tie_weights), window()
    plain = plain_log_prob(head, hidden)
    assert_same(head, hidden, head.log_prob(hidden), plain)
    nll = F.nll_loss(plain.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    assert_same(head, hidden, head.nll(hidden, targets), nll)
    assert head.nll(hidden, targets)[3, 1].item() == 0


def test_gradients_are_those_of_finite_differences():
    head, (hidden, targets) = make_head(), window()
    inputs = [hidden, *head.parameters()]  # which gradcheck changes in place
    assert torch.autograd.gradcheck(lambda *_: head.nll(hidden, targets), inputs, fast_mode=True)


def test_a_single_expert_is_the_softmax_of_its_latent_vector():
    head, (hidden, targets) = make_head(num_experts=1), window()
    softmax = SoftmaxHead(E, TokenEmbedding(V, E), tie_weights=False).double()
    softmax.decoder.load_state_dict(head.decoder.state_dict())
    latent = head.latent(hidden).tanh()
    torch.testing.assert_close(head.nll(hidden, targets), softmax.nll(latent, targets))
    torch.testing.assert_close(head.log_prob(hidden), softmax.log_prob(latent))


@pytest.mark.parametrize("tie_weights", [False, True])
def test_with_every_word_sampled_the_training_loss_is_exact(tie_weights):
    head, (hidden, targets) = make_head(tie_weights, num_sampled=V), window()
    assert_same(head, hidden, head.training_nll(hidden, targets), head.nll(hidden, targets))


def test_all_experts_share_the_candidates_of_a_window():
    head, (hidden, targets) = make_head(num_sampled=20), window()
    torch.manual_seed(2)
    words, corrections = head.sampler.candidates(targets.flatten())
    words, corrections = words[corrections > EXCLUDED], corrections[corrections > EXCLUDED]  # without the padding
    rows = torch.searchsorted(words, targets).where(targets != IGNORE_INDEX, IGNORE_INDEX)
    plain = plain_log_prob(head, hidden, words, corrections).flatten(0, 1)
    torch.manual_seed(2)
    ours = head.training_nll(hidden, targets)
    assert_same(head, hidden, ours, F.nll_loss(plain, rows.flatten(), reduction="none").view_as(targets))
    assert not torch.allclose(ours, head.nll(hidden, targets))


def test_without_a_sampler_or_in_evaluation_mode_the_training_loss_is_exact():
    hidden, targets = window()
    for head in (make_head(), make_head(num_sampled=20).eval()):
        assert torch.equal(head.training_nll(hidden, targets), head.nll(hidden, targets))


@pytest.mark.parametrize("locked", [True, False])
def test_latent_dropout_has_one_mask_for_a_window_where_it_is_locked(locked):
    head = MixtureHead(H, TokenEmbedding(V, E), False, num_experts=K, latent_dropout=0.5, locked_dropout=locked)
    hidden = torch.randn(1, 2, H).expand(7, 2, H)  # the same in all steps
    latents, _ = head.experts(hidden)
    assert latents.shape == (K, 7, 2, E)
    assert 0.3 < (latents == 0).float().mean() < 0.7
    assert torch.equal(latents, latents[:, :1].expand_as(latents)) == locked
    kept = latents != 0
    head.eval()
    torch.testing.assert_close(latents[kept], 2 * head.experts(hidden)[0][kept], rtol=1e-3, atol=0)


def test_bfloat16_stays_close_to_fp64():
    head, (hidden, targets) = make_head(), window()
    expected = head.nll(hidden, targets)
    nll = head.bfloat16().nll(hidden.bfloat16(), targets)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll.double(), expected, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("option", [{"num_experts": 0}, {"latent_dropout": 1.0}, {"num_sampled": 0}])
def test_numbers_out_of_range_are_refused(option):
    with pytest.raises(UserError, match=next(iter(option))):
        MixtureHead(H, TokenEmbedding(V, E), False, **({"num_experts": K, "latent_dropout": 0.0} | option))
