"""The baseline computes what our models compute, and reads the text that our corpus holds."""

import pytest
import torch
from torch.nn import functional as F

from lm.benchmark import plain
from lm.data.corpus import encode
from lm.data.sources import folder
from tests.conftest import RECURRENT, V, make_model

NAMES = {
    "head.decoder": "decoder",
    "core.layers": "core",
    "attention.query_key_value.": "self_attn.in_proj_",
    "attention.output": "self_attn.out_proj",
    "feedforward.inner": "linear1",
    "feedforward.outer": "linear2",
    "attention_norm": "norm1",
    "feedforward_norm": "norm2",
}


def plain_twin(ours, name):
    core = {"cell": name} if name in RECURRENT else {"num_heads": 2, "feedforward_size": 20}
    config = {
        "core": core | {"hidden_size": 12, "num_layers": 2, "dropout": 0.0},
        "embedding": {"embedding_size": 12},
        "head": {"tie_weights": False},
    }
    theirs = plain.Model(V, config)
    weights = {}
    for key, weight in ours.state_dict().items():
        for our_name, plain_name in NAMES.items():
            key = key.replace(our_name, plain_name)
        weights[key if name in RECURRENT else key.replace("core.", "core.layers.")] = weight.clone()
    theirs.load_state_dict(weights)
    return theirs


@pytest.mark.parametrize("name", [*RECURRENT, "transformer"])
def test_trains_to_the_same_losses_as_ours_from_the_same_weights(name):
    ours = make_model(name).train()
    theirs = plain_twin(ours, name)
    optimizer = torch.optim.SGD(ours.parameters(), lr=1.0)
    our_state = plain_state = None
    for _ in range(4):
        inputs, targets = torch.randint(V, (2, 5, 3))
        optimizer.zero_grad()
        nll, our_state = ours.nll(inputs, targets, our_state)
        our_state = ours.core.carry(our_state)
        nll.mean().backward()
        optimizer.step()
        theirs.zero_grad()
        log_probs, plain_state = theirs(inputs, plain_state)
        loss = F.nll_loss(log_probs, targets.flatten())
        loss.backward()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter -= parameter.grad
        torch.testing.assert_close(nll.mean(), loss)


def test_reads_as_many_words_as_our_corpus_holds(text_folder):
    files = folder(text_folder)
    ids, streams = plain.read_corpus(list(map(str, files)))
    corpus = encode(files, 1, None, None)
    assert [len(stream) for stream in streams] == [len(stream) for stream in corpus[1:]]
    assert set(ids) == set(corpus.vocabulary.words)


def test_words_that_the_training_text_has_not_are_unknown(tmp_path):
    for split, text in {"train": "a b", "valid": "b c", "test": "a"}.items():
        (tmp_path / f"{split}.txt").write_text(text + "\n")
    ids, [_, valid, _] = plain.read_corpus([f"{tmp_path}/{split}.txt" for split in ("train", "valid", "test")])
    assert [*ids] == ["a", "b", "<eos>", "<unk>"]
    assert valid.tolist() == [1, 3, 2]


def test_windows_cover_the_streams_once():
    text = torch.arange(44).view(4, 11).t()
    inputs, targets = (torch.cat(parts) for parts in zip(*plain.windows(torch.arange(47), 4, 3), strict=True))
    assert inputs.tolist() == text[:-1].tolist()
    assert targets.tolist() == text[1:].tolist()
