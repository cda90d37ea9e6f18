"""A linear layer with many outputs, as in incremental decoding."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lm.ops.onednn import onednn_linear

FEW = 8  # rows up to which batched products are the fastest; beyond, oneDNN's are (measured, 33,278 words)


def linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A drop-in for `F.linear`: `[…, H]`, `[V, H]`, `[V]` → `[…, V]`.

    On a CPU F.linear's product with few rows runs in one thread, below memory bandwidth. As a batch with a part of the
    matrix for each thread it is dispatched to torch's own kernel, which reads the matrix once.
    """
    positions = rows.numel() // rows.size(-1)
    plain = rows.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    if plain or not positions:
        return F.linear(rows, weight, bias)
    if positions > FEW:
        return onednn_linear(rows, weight, bias)
    parts = max(2, torch.get_num_threads())  # one would not be a batch
    size = len(weight) // parts
    columns, split = rows.reshape(positions, -1).T, parts * size
    matrices = weight[:split].view(parts, size, weight.size(1))
    products = torch.baddbmm(bias[:split].view(parts, size, 1), matrices, columns.expand(parts, -1, -1)).flatten(0, 1)
    if split < len(weight):
        products = torch.cat([products, torch.addmm(bias[split:, None], weight[split:], columns)])
    return products.T.view(*rows.shape[:-1], len(weight))
