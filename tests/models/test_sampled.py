"""The sampled softmax: an unbiased training loss, exact where every word is sampled, and exact evaluation."""

import copy

import pytest
import torch
from torch import Tensor, multiprocessing

from lm.errors import UserError
from lm.models import SampledHead, TokenEmbedding, sampled
from lm.models.sampled import EXCLUDED, inclusion_probabilities, shared_uniform, systematic_sample
from lm.ops import IGNORE_INDEX

V, H = 300, 6


def make_head(num_sampled: int = 40, tie_weights: bool = False, embedding_size: int = H) -> SampledHead:
    torch.manual_seed(0)
    head = SampledHead(H, TokenEmbedding(V, embedding_size), tie_weights, num_frequent=20, num_sampled=num_sampled)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.double()


def window(ignored: bool = True) -> tuple[Tensor, Tensor]:
    """Outputs `[5, 3, H]` and targets `[5, 3]` of frequent and of rare words."""
    torch.manual_seed(1)
    hidden, targets = torch.randn(5, 3, H, dtype=torch.float64), torch.randint(V, (5, 3))
    targets[0] = torch.tensor([3, V - 1, 20])
    if ignored:
        targets[4, 1] = IGNORE_INDEX
    return hidden.requires_grad_(), targets


def seeded_loss(head: SampledHead, hidden: Tensor, targets: Tensor) -> Tensor:
    torch.manual_seed(2)
    return head.training_nll(hidden, targets)


def samples_of_every_uniform(inclusion: Tensor) -> list[tuple[float, Tensor]]:
    """The probability of each possible sample and a uniform number that gives it: breaks are where intervals end."""
    breaks = (inclusion.cumsum(0) % 1).sort().values
    breaks = torch.cat([breaks.new_zeros(1), breaks, breaks.new_ones(1)])
    pairs = zip(breaks.diff().tolist(), (breaks[1:] + breaks[:-1]) / 2, strict=True)
    return [(length, middle) for length, middle in pairs if length > 1e-9]


@pytest.mark.parametrize("num_sampled", [1, 40, 200, 279, 280, 1000])
def test_inclusion_probabilities_sum_to_the_number_of_words_and_follow_zipf_below_one(num_sampled):
    inclusion = inclusion_probabilities(V, 20, num_sampled)
    assert inclusion.sum().item() == pytest.approx(20 + min(num_sampled, V - 20))
    assert (inclusion[:20] == 1).all()
    assert (inclusion.diff() <= 0).all()
    below_one = inclusion < 1 - 1e-12
    mass = inclusion[below_one] * torch.arange(1, V + 1)[below_one]
    torch.testing.assert_close(mass, mass[:1].expand_as(mass))


@pytest.mark.parametrize("num_sampled", [1, 40, 200, 280])
def test_over_all_uniform_numbers_each_word_is_sampled_with_exactly_its_probability(num_sampled):
    inclusion = inclusion_probabilities(V, 20, num_sampled)
    found = torch.zeros(V, dtype=torch.float64)
    for probability, uniform in samples_of_every_uniform(inclusion):
        words = systematic_sample(inclusion, uniform)
        assert len(words) == len(words.unique()) == 20 + num_sampled
        found[words] += probability
    torch.testing.assert_close(found, inclusion, rtol=0, atol=1e-6)


def test_inclusion_frequencies_pass_a_chi_square_test():
    inclusion, draws = inclusion_probabilities(V, 20, 40), 4000
    torch.manual_seed(0)
    sampled_words = torch.stack([systematic_sample(inclusion, shared_uniform(inclusion.device)) for _ in range(draws)])
    ends = inclusion.cumsum(0)
    for i in range(25, 60, 5):  # the words at u + i are multinomial: of probability what their intervals share with it
        shares = ends.clamp(i, i + 1).diff(prepend=ends.new_tensor([i]))
        counts = sampled_words[:, i].bincount(minlength=V)
        assert (counts[shares == 0] == 0).all()
        counts, expected = counts[shares > 0], draws * shares[shares > 0]
        statistic, freedom = ((counts - expected).square() / expected).sum().item(), len(counts) - 1
        assert statistic < freedom + 4 * (2 * freedom) ** 0.5 + 4


@pytest.mark.parametrize("num_sampled", [1, 40, 200])
def test_the_partition_function_is_unbiased(num_sampled, monkeypatch):
    head, (hidden, targets) = make_head(num_sampled), window(ignored=False)
    logits = (hidden @ head.decoder.weight.T + head.decoder.bias).detach()
    target_logits = logits.gather(-1, targets[..., None]).squeeze(-1)
    estimates = []
    for probability, uniform in samples_of_every_uniform(head.sampler.inclusion):
        monkeypatch.setattr(sampled, "shared_uniform", lambda device, uniform=uniform: uniform)
        with torch.no_grad():
            estimates.append(probability * (head.training_nll(hidden, targets) + target_logits).exp())
    torch.testing.assert_close(torch.stack(estimates).sum(0), logits.exp().sum(-1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_sampled", [V - 20, 10 * V])
@pytest.mark.parametrize(("tie_weights", "embedding_size"), [(False, H), (True, H), (True, 4)])
def test_loss_and_gradients_are_exact_where_every_word_is_sampled(num_sampled, tie_weights, embedding_size):
    head, (hidden, targets) = make_head(num_sampled, tie_weights, embedding_size), window()
    inputs = [hidden, *head.parameters()]
    estimate, exact = head.training_nll(hidden, targets), head.nll(hidden, targets)
    torch.testing.assert_close(estimate, exact)
    ours, theirs = (torch.autograd.grad(loss.sum(), inputs) for loss in (estimate, exact))
    torch.testing.assert_close(ours, theirs)


def test_a_vocabulary_of_fewer_words_than_are_frequent_gives_the_exact_loss():
    head = SampledHead(H, TokenEmbedding(5, H), tie_weights=False, num_frequent=20, num_sampled=40)
    hidden, targets = torch.randn(4, 1, H), torch.tensor([[0], [4], [2], [IGNORE_INDEX]])
    torch.testing.assert_close(head.training_nll(hidden, targets), head.nll(hidden, targets))


def test_evaluation_mode_is_exact():
    head, (hidden, targets) = make_head(), window()
    assert not torch.allclose(head.training_nll(hidden, targets), head.nll(hidden, targets))
    head.eval()
    assert torch.equal(head.training_nll(hidden, targets), head.nll(hidden, targets))


@pytest.mark.parametrize(("tie_weights", "embedding_size"), [(False, H), (True, 4)])
def test_gradients_are_those_of_finite_differences(tie_weights, embedding_size):
    head, (hidden, targets) = make_head(5, tie_weights, embedding_size), window()
    inputs = [hidden, *head.parameters()]  # which gradcheck changes in place
    assert torch.autograd.gradcheck(lambda *_: seeded_loss(head, hidden, targets), inputs, fast_mode=True)


def test_candidates_are_the_targets_and_the_sample_padded_to_a_multiple_that_takes_no_part():
    head, (_, targets) = make_head(), window()
    words, corrections = head.sampler.candidates(targets.flatten())
    assert (words.diff() > 0).all()
    assert len(words) % 64 == 0
    wanted = targets[targets != IGNORE_INDEX].unique()
    assert (corrections[torch.searchsorted(words, wanted)] == 0).all()
    included = corrections > EXCLUDED
    assert 60 <= included.sum() <= 60 + len(wanted)
    others = included & ~torch.isin(words, wanted)
    assert torch.equal(corrections[others], -head.sampler.inclusion[words[others]].log())


def test_rows_of_no_candidate_have_no_gradient_and_sgd_leaves_them_unchanged():
    head, (hidden, targets) = make_head(), window()
    torch.manual_seed(2)
    words, corrections = head.sampler.candidates(targets.flatten())
    before = copy.deepcopy(head.state_dict())
    seeded_loss(head, hidden, targets).mean().backward()
    torch.optim.SGD(head.parameters(), lr=1.0).step()
    is_candidate = torch.zeros(V, dtype=torch.bool)
    is_candidate[words[corrections > EXCLUDED]] = True
    assert 60 <= is_candidate.sum() < 80
    for name in ("weight", "bias"):
        gradient = getattr(head.decoder, name).grad.view(V, -1)
        changed = (getattr(head.decoder, name) != before[f"decoder.{name}"]).view(V, -1)
        assert (gradient[~is_candidate] == 0).all()
        assert not changed[~is_candidate].any()
        assert changed[is_candidate].any(-1).all()


def test_ignored_targets_cost_nothing_and_have_no_gradient():
    head, (hidden, targets) = make_head(), window()
    nll = head.training_nll(hidden, targets)
    assert ((nll == 0) == (targets == IGNORE_INDEX)).all()
    [gradient] = torch.autograd.grad(nll.sum(), hidden)
    assert ((gradient == 0).all(-1) == (targets == IGNORE_INDEX)).all()


def test_a_target_beyond_the_vocabulary_is_an_error():
    with pytest.raises(IndexError):
        make_head().training_nll(torch.randn(1, 1, H, dtype=torch.float64), torch.tensor([[V]]))


def test_autocast_and_16_bit_weights_stay_close_to_fp64():
    head, (hidden, targets) = make_head(), window()
    expected = seeded_loss(head, hidden, targets)
    fp32 = copy.deepcopy(head).float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = seeded_loss(fp32, hidden.float(), targets)
    for loss in (mixed, seeded_loss(head.bfloat16(), hidden.bfloat16(), targets)):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), expected, rtol=0.05, atol=0.05)


def test_the_sample_follows_torchs_generator_and_changes_from_window_to_window():
    head, (_, targets) = make_head(), window()
    state = torch.get_rng_state()
    first, second = (head.sampler.candidates(targets.flatten())[0] for _ in range(2))
    torch.set_rng_state(state)
    assert torch.equal(first, head.sampler.candidates(targets.flatten())[0])
    assert not torch.equal(first, second)


def test_its_weights_are_those_of_the_softmax_head():
    assert make_head(tie_weights=True).state_dict().keys() == {"decoder.weight", "decoder.bias"}


def test_on_the_meta_device_the_largest_vocabulary_takes_no_memory():
    with torch.device("meta"):
        head = SampledHead(H, TokenEmbedding(2**31 - 1, H), tie_weights=True, num_frequent=20, num_sampled=40)
    assert head.decoder.weight.is_meta


def test_numbers_below_one_are_refused():
    with pytest.raises(UserError, match="num_sampled=0"):
        SampledHead(H, TokenEmbedding(V, H), tie_weights=False, num_frequent=1, num_sampled=0)


def _draw(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", world_size=2, rank=rank)
    torch.manual_seed(rank)
    torch.save([shared_uniform(torch.device("cpu")) for _ in range(3)], f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_with_different_random_states_draw_the_same_samples(tmp_path):
    multiprocessing.spawn(_draw, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / rank) for rank in "01")
    assert first == second
    torch.manual_seed(0)
    assert first == [torch.rand((), dtype=torch.float64) for _ in range(3)]
