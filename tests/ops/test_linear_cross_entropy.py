"""The blockwise loss against the plain one: values and gradients, in every precision and at odd sizes."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lm.ops import linear_cross_entropy
from lm.ops.linear_cross_entropy import BLOCK, words_per_block

SIZES = {  # positions, features, words, words in a block
    "one block": (6, 4, 10, 10),
    "odd sizes": (7, 5, 23, 4),
    "one position": (1, 3, 11, 2),
    "one word at a time": (3, 2, 5, 1),
    "block larger than the vocabulary": (4, 3, 6, 1000),
    "the block of the default": (20, 16, 2500, 1024),
    "no positions": (0, 3, 8, 4),
}
PRECISIONS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def plain_linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    log_probs = F.log_softmax(F.linear(hidden, weight, bias), dim=-1)
    return F.nll_loss(log_probs, targets, reduction="none")


def parts(positions: int, features: int, words: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(positions, features, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(words, features, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(words, dtype=torch.float64, requires_grad=True)
    return hidden, weight, bias, torch.randint(words, (positions,))


def relative_error(value: Tensor, reference: Tensor) -> float:
    return ((value - reference).norm() / reference.norm().clamp(min=1e-30)).item()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.items(), ids=str)
def test_values_and_gradients_are_those_of_the_plain_loss(size, dtype, tolerance):
    *exact, targets = parts(*size[:3])
    upstream = torch.rand(size[0], dtype=torch.float64)
    expected = plain_linear_cross_entropy(*exact, targets)
    expected_gradients = torch.autograd.grad(expected, exact, upstream)
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in exact]
    loss = linear_cross_entropy(*inputs, targets, block=size[3])
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert relative_error(loss, expected) < tolerance
    gradients = torch.autograd.grad(loss, inputs, upstream.to(loss.dtype))
    for gradient, reference, tensor in zip(gradients, expected_gradients, inputs, strict=True):
        assert gradient.dtype == tensor.dtype
        assert relative_error(gradient, reference) < tolerance


def test_gradients_are_those_of_finite_differences():
    *inputs, targets = parts(5, 3, 7)
    assert torch.autograd.gradcheck(lambda *tensors: linear_cross_entropy(*tensors, targets, block=3), inputs)


def test_autocast_gives_fp32_losses_and_gradients_as_close_to_fp32_as_plain_autocast_does():
    *exact, targets = parts(64, 32, 500)
    inputs = [tensor.detach().float().requires_grad_() for tensor in exact]
    expected = torch.autograd.grad(plain_linear_cross_entropy(*exact, targets).mean(), exact)
    with torch.autocast("cpu", torch.bfloat16):
        loss, plain_loss = (
            linear_cross_entropy(*inputs, targets, block=64),
            plain_linear_cross_entropy(*inputs, targets),
        )
    assert loss.dtype == torch.float32
    fast, plain = (torch.autograd.grad(each.mean(), inputs) for each in (loss, plain_loss))
    for gradient, plain_gradient, reference in zip(fast, plain, expected, strict=True):
        assert gradient.dtype == torch.float32
        assert relative_error(gradient, reference) < min(1e-2, 1.1 * relative_error(plain_gradient, reference))


def test_a_16_bit_loss_is_rounded_only_where_a_backward_pass_follows():
    *exact, targets = parts(64, 32, 500)
    hidden, weight, bias = (tensor.detach().bfloat16() for tensor in exact)
    expected = F.cross_entropy(F.linear(hidden, weight, bias).float(), targets, reduction="none")
    torch.testing.assert_close(linear_cross_entropy(hidden, weight, bias, targets), expected, atol=3e-2, rtol=0)
    rounded = linear_cross_entropy(hidden.requires_grad_(), weight, bias, targets)
    precise = linear_cross_entropy(hidden.detach(), weight, bias, targets)
    assert 0 < (rounded - precise).abs().max() < 2**-8


def test_frequent_words_keep_all_of_their_gradient_in_16_bits():
    hidden, weight = (
        torch.ones(2000, 2, dtype=torch.bfloat16),
        torch.zeros(4, 2, dtype=torch.bfloat16, requires_grad=True),
    )
    bias = torch.zeros(4, dtype=torch.bfloat16, requires_grad=True)
    linear_cross_entropy(hidden, weight, bias, torch.zeros(2000, dtype=torch.long)).sum().backward()
    torch.testing.assert_close(bias.grad.float(), torch.tensor([-1500.0, 500.0, 500.0, 500.0]), rtol=1e-2, atol=0)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_parts_leave_the_other_gradients_as_they_are(frozen):
    *inputs, targets = parts(5, 3, 7)
    wanted = [tensor for i, tensor in enumerate(inputs) if i != frozen]
    inputs[frozen] = inputs[frozen].detach()
    fast = torch.autograd.grad(linear_cross_entropy(*inputs, targets, block=3).sum(), wanted)
    plain = torch.autograd.grad(plain_linear_cross_entropy(*inputs, targets).sum(), wanted)
    torch.testing.assert_close(fast, plain)


def test_16_bit_outputs_of_a_core_meet_fp32_weights_under_autocast():
    hidden, weight, bias, targets = parts(6, 4, 10)
    hidden = hidden.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight.detach().float(), bias.detach().float(), targets)
    loss.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_huge_logits_neither_overflow_nor_lose_the_small_ones(dtype):
    weight = torch.tensor([[0.0], [500.0], [1000.0]], dtype=dtype)
    loss = linear_cross_entropy(
        torch.ones(3, 1, dtype=dtype), weight, torch.zeros(3, dtype=dtype), torch.arange(3), block=1
    )
    torch.testing.assert_close(loss, torch.tensor([1000.0, 500.0, 0.0]))


def test_ignored_targets_cost_nothing_and_have_no_gradient():
    *inputs, targets = parts(4, 3, 9)
    targets[1] = targets[3] = -100
    loss = linear_cross_entropy(*inputs, targets, block=4)
    assert loss[1].item() == loss[3].item() == 0
    expected = plain_linear_cross_entropy(*inputs, targets)
    torch.testing.assert_close(loss, expected)
    fast, plain = (torch.autograd.grad(each.sum(), inputs) for each in (loss, expected))
    for gradient, reference in zip(fast, plain, strict=True):
        torch.testing.assert_close(gradient, reference)


def test_one_matrix_for_input_and_output_gets_both_gradients():
    *_, targets = parts(5, 3, 8)
    embedding = torch.randn(8, 3, requires_grad=True)
    tokens, bias = torch.randint(8, (5,)), torch.zeros(8)
    fast, plain = (
        torch.autograd.grad(loss(embedding[tokens], embedding, bias, targets).sum(), embedding)[0]
        for loss in (linear_cross_entropy, plain_linear_cross_entropy)
    )
    torch.testing.assert_close(fast, plain)


def test_never_holds_the_logits_in_fp32():
    positions, features, words = 64, 8, 4096
    largest = positions * words

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, Tensor):
                    assert tensor.dtype == torch.bfloat16 or tensor.numel() < largest, function
            return result

    *inputs, targets = parts(positions, features, words)
    for precision in (torch.float32, torch.bfloat16):
        tensors = [tensor.detach().to(precision).requires_grad_() for tensor in inputs]
        with Watch():
            linear_cross_entropy(*tensors, targets, block=512).sum().backward()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("autocast", [False, True])
def test_on_a_gpu_it_is_the_plain_loss_too(autocast):
    *inputs, targets = parts(33, 16, 3000)
    inputs = [tensor.detach().float().cuda().requires_grad_() for tensor in inputs]
    expected = plain_linear_cross_entropy(*inputs, targets.cuda())
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        loss = linear_cross_entropy(*inputs, targets.cuda())
    tolerance = 2e-2 if autocast else 1e-5
    assert relative_error(loss, expected) < tolerance
    fast, plain = (torch.autograd.grad(each.mean(), inputs) for each in (loss, expected))
    for gradient, reference in zip(fast, plain, strict=True):
        assert relative_error(gradient, reference) < tolerance


@pytest.mark.parametrize(("gigabytes", "positions", "words"), [(80, 700, 900_000), (8, 700, 90_000), (8, 7000, 9000)])
def test_on_a_gpu_a_block_has_as_many_words_as_an_eighth_of_its_memory_allows(monkeypatch, gigabytes, positions, words):
    memory = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    block = words_per_block(positions, torch.device("cuda"))
    assert block == pytest.approx(words, rel=0.1)
    assert block % BLOCK == 0
    assert 16 * positions * block <= memory.total_memory / 8


def test_a_block_is_never_empty_and_on_a_cpu_always_the_same(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=10**6))
    assert [words_per_block(n, torch.device("cuda")) for n in (0, 10**6)] == [7 * BLOCK, BLOCK]
    assert [words_per_block(n, torch.device("cpu")) for n in (0, 10**6)] == [BLOCK, BLOCK]
