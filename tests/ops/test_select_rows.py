"""Rows of a matrix, against plain indexing."""

import pytest
import torch

from lm.ops import select_rows


@pytest.mark.parametrize("shape", [(9, 4), (9,)], ids=["matrix", "vector"])
@pytest.mark.parametrize("rows", [[3, 0, 8], list(range(9)), []], ids=["some", "all", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_those_of_indexing(shape, rows, dtype):
    matrix = torch.randn(shape, dtype=dtype, requires_grad=True)
    rows = torch.tensor(rows, dtype=torch.long)
    ours, plain = select_rows(matrix, rows), matrix[rows]
    assert torch.equal(ours, plain)
    upstream = torch.randn_like(plain)
    gradients = [torch.autograd.grad(each, matrix, upstream)[0] for each in (ours, plain)]
    assert torch.equal(*gradients)


def test_gradients_are_those_of_finite_differences():
    matrix = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda matrix: select_rows(matrix, torch.tensor([4, 1])), [matrix])
