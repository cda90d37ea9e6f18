"""A model as one ONNX file, with its state as inputs and outputs."""

import copy
import json
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.attention import SDPBackend, sdpa_kernel

from lm.errors import UserError
from lm.files.atomic import atomic_write
from lm.language_model import LanguageModel
from lm.models import CausalLM, State, map_state

# For each of torch's layers ONNX's operator, and which of torch's gates goes where in its weights
OPERATORS: dict[type[nn.RNNBase], tuple[str, list[int]]] = {
    nn.LSTM: ("LSTM", [0, 3, 1, 2]),
    nn.GRU: ("GRU", [1, 0, 2]),
    nn.RNN: ("RNN", [0]),
}


def export_onnx(model: LanguageModel, path: Path) -> float:
    """Write a graph that maps tokens `[time, batch]` and a state to log-probabilities in nats and the next state.

    Inputs are `tokens` and `state_0`, `state_1`, …; outputs `log_probs` `[time, batch, V]` and `next_state_0`, …. The
    initial state is zeros, of length zero in the dimension `past`. The metadata has the words (`vocabulary`, JSON)
    and the context length that the model is trained for (`context`, 0 for no limit).

    Returns:
        The largest difference in nats between onnxruntime's log-probabilities and torch's.
    """
    tokens = torch.zeros(5, 3, dtype=torch.long)  # distinct sizes, other than 1
    _, state = model.model(tokens)
    dimensions = [{0: Dim("time"), 1: Dim("batch")}, dynamic_dimensions(model.model, state)]
    names = [f"state_{i}" for i in range(len(leaves(state)))]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns about packages that are not needed
    # the exporter decomposes attention into its plain products, whose strides other kernels do not have
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            with_onnx_layers(model.model),
            (tokens, state),
            dynamo=True,
            verbose=False,
            dynamic_shapes=dimensions,
            input_names=["tokens", *names],
            output_names=["log_probs", *(f"next_{name}" for name in names)],
        )
    assert program is not None
    program.model.metadata_props["vocabulary"] = json.dumps(model.vocabulary.words)
    program.model.metadata_props["context"] = str(model.model.core.context or 0)
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        program.save(file)
        if len([*Path(folder).iterdir()]) > 1:
            raise UserError(
                "format=onnx given, but the weights are too large for a single ONNX file: use format=folder."
            )
        difference = largest_difference(model.model, file)
        with atomic_write(path) as out:
            out.write(file.read_bytes())
    return difference


def largest_difference(model: CausalLM, path: Path) -> float:
    """The difference between onnxruntime's and torch's log-probabilities, in nats, over texts fed in parts."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()[1:]]
    state = model.core.initial_state(2)
    after: list[Any] = [leaf.numpy() for leaf in leaves(state)]
    differences = []
    for steps in (5, 1, 2):
        tokens = torch.randint(model.embedding.num_embeddings, (steps, 2))
        with torch.no_grad():
            log_probs, state = model(tokens, state)
        found, *after = session.run(None, {"tokens": tokens.numpy()} | dict(zip(names, after, strict=True)))
        differences.append(float(abs(found - log_probs.numpy()).max()))
    return max(differences)


def leaves(state: State) -> list[Tensor]:
    """The tensors of a state, in order."""
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in leaves(part)]


def dynamic_dimensions(model: CausalLM, state: State) -> State:
    """For each tensor of a state, its dynamic dimensions by name, in the state's structure."""
    batch_dim, batch, past = model.core.batch_dim, Dim("batch"), Dim("past")

    def named(read: Tensor, unread: Tensor) -> dict[int, Dim]:
        grown = {i: past for i in range(read.dim()) if read.size(i) != unread.size(i)}
        return {batch_dim: batch} | grown

    return map_state(named, state, model.core.initial_state(leaves(state)[0].size(batch_dim)))


def with_onnx_layers(model: CausalLM) -> CausalLM:
    """A copy of a model with ONNX operators instead of torch's recurrent layers, whose loop cannot be traced."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.RNNBase):
                setattr(module, name, OnnxLayers(child))
    return model


class OnnxLayers(nn.Module):
    """Recurrent layers as ONNX operators; for export only, not for computation."""

    def __init__(self, layers: nn.RNNBase) -> None:
        super().__init__()
        self.operator, self.gates = OPERATORS[type(layers)]
        self.hidden_size = layers.hidden_size
        self.attributes: dict[str, Any] = {"hidden_size": layers.hidden_size}
        if isinstance(layers, nn.GRU):
            self.attributes["linear_before_reset"] = 1
        if isinstance(layers, nn.RNN):
            self.attributes["activations"] = [layers.nonlinearity.capitalize()]
        self.weights = nn.ParameterList()
        for layer in range(layers.num_layers):
            inputs, hidden = (self._ordered(layers, f"weight_{kind}_l{layer}") for kind in ("ih", "hh"))
            biases = [self._ordered(layers, f"bias_{kind}_l{layer}") for kind in ("ih", "hh")]
            self.weights.extend([inputs[None], hidden[None], torch.cat(biases)[None]])

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """`[T, B, E]` and a state of tensors `[L, B, H]` → `[T, B, H]` and the next state."""
        parts = [state] if isinstance(state, Tensor) else list(state)
        next_parts: list[list[Tensor]] = [[] for _ in parts]
        for layer in range(len(self.weights) // 3):
            weights = self.weights[3 * layer : 3 * layer + 3]
            one = [1, inputs.size(1), self.hidden_size]
            outputs, *after = torch.onnx.ops.symbolic_multi_out(
                self.operator,
                (inputs, *weights, None, *(part[layer : layer + 1] for part in parts)),  # None: sequence lengths
                self.attributes,
                dtypes=[inputs.dtype] * (1 + len(parts)),
                shapes=[[inputs.size(0), *one], *([one] * len(parts))],
            )
            inputs = outputs.squeeze(1)
            for collected, part in zip(next_parts, after, strict=True):
                collected.append(part)
        after = [torch.cat(collected) for collected in next_parts]
        return inputs, after[0] if isinstance(state, Tensor) else tuple(after)

    def _ordered(self, layers: nn.RNNBase, name: str) -> Tensor:
        """A weight or bias with its gates in ONNX's order."""
        gates = getattr(layers, name).detach().chunk(len(self.gates))
        return torch.cat([gates[i] for i in self.gates])
