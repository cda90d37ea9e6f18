"""The exported folder: our own model again, and a Hugging Face model that says the same."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache, pipeline

from lm import LanguageModel
from lm.checkpoints.pretrained import export_folder
from lm.data import EOS
from lm.errors import UserError
from lm.export.huggingface import STATE  # which registers the model
from lm.language_model import words_of
from tests.conftest import V, composed, make_model, small_model_config


@pytest.fixture(scope="module", params=["lstm", "transformer"])
def original(request, trained, tmp_path_factory):
    """A checkpoint and its exported folder."""
    return trained(request.param), exported(trained(request.param), tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original[1], tmp_path / "model"))


@pytest.fixture
def checkpoint(original):
    return LanguageModel.load(original[0])


def test_the_folder_loads_as_the_model_that_it_was(folder, checkpoint):
    loaded = LanguageModel.load(folder)
    assert loaded.vocabulary.words == checkpoint.vocabulary.words
    for part in ("model", "optimizer", "seed"):
        assert loaded.config[part] == checkpoint.config[part]
    assert loaded.score("w1 w2 zebra") == checkpoint.score("w1 w2 zebra")
    assert loaded.path == folder


def test_hugging_face_gives_the_same_numbers_log_probabilities_and_loss(folder, checkpoint):
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = "w1 w2 zebra\nw3 w4"
    ids = tokenizer(text, return_tensors="pt").input_ids
    ours = checkpoint.vocabulary.encode([EOS, "w1", "w2", "zebra", EOS, "w3", "w4"])
    assert torch.equal(ids[0], ours)
    log_probs, _ = checkpoint.model(ours[:, None])
    output = theirs(input_ids=ids, labels=ids)
    torch.testing.assert_close(output.logits[0], log_probs[:, 0])
    nll, _ = checkpoint.model.nll(ours[:-1, None], ours[1:, None])
    torch.testing.assert_close(output.loss, nll.mean())


def test_hugging_faces_generate_takes_our_most_probable_words_with_and_without_its_state(folder, checkpoint):
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(["w1 w2", "w5 w6"], return_tensors="pt")
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    options |= {"output_scores": True, "return_dict_in_generate": True}
    fast, slow = (theirs.generate(**inputs, **options, use_cache=use_cache) for use_cache in (True, False))
    assert torch.equal(fast.sequences, slow.sequences)
    torch.testing.assert_close(torch.stack(fast.scores), torch.stack(slow.scores), rtol=1e-4, atol=1e-5)
    for prompt, row in zip(("w1 w2", "w5 w6"), fast.sequences[:, 3:], strict=True):
        [ours] = checkpoint.generate(prompt, max_words=20, top_k=1)
        assert tokenizer.decode(row).split() == words_of(ours)[2:]


def test_hugging_faces_scores_and_beams_are_ours(folder, checkpoint):
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("w1 w2", return_tensors="pt")
    output = theirs.generate(
        **inputs, max_new_tokens=5, do_sample=False, output_scores=True, return_dict_in_generate=True, eos_token_id=-1
    )
    log_probs, _ = checkpoint.model(output.sequences.T)
    torch.testing.assert_close(torch.cat(output.scores), log_probs[2:-1, 0], rtol=1e-4, atol=1e-5)
    beams = theirs.generate(
        **inputs, max_new_tokens=5, num_beams=4, do_sample=False, length_penalty=0.0, eos_token_id=-1
    )
    [(_, best)] = checkpoint.beam_search("w1 w2", max_words=5, num_beams=4)
    log_probs, _ = checkpoint.model(beams[:, :-1].T)
    found = log_probs[2:, 0].gather(1, beams[0, 3:, None]).sum().item()
    assert found == pytest.approx(best, abs=1e-4)


def test_a_hugging_face_model_can_be_trained_further(folder):
    theirs = AutoModelForCausalLM.from_pretrained(folder).train()
    ids = torch.randint(20, (2, 8))
    theirs(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in theirs.parameters())


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_state_is_taken_under_either_name_and_missed_where_one_must_be(folder, checkpoint, name):
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    ids = checkpoint.vocabulary.encode([EOS, "w1", "w2", "w3"])[None]
    mask = torch.ones_like(ids)
    whole = theirs(ids).logits
    state = theirs(ids[:, :3], attention_mask=mask[:, :3])[STATE]
    with pytest.raises(ValueError, match="about 4 words, but 1 are given and 0 have been read"):
        theirs(ids[:, 3:], attention_mask=mask)
    torch.testing.assert_close(theirs(ids[:, 3:], attention_mask=mask, **{name: state}).logits, whole[:, 3:])
    with pytest.raises(ValueError, match="this model makes its own"):
        theirs(ids, **{name: DynamicCache()})
    with pytest.raises(TypeError, match="past"):
        theirs(ids, past=state)


@pytest.mark.filterwarnings("ignore")
def test_a_pipeline_separates_the_prompt_and_what_it_writes(folder, checkpoint):
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    write = pipeline("text-generation", model=theirs, tokenizer=tokenizer)
    [text] = write("w1 w2", max_new_tokens=5, do_sample=False, eos_token_id=-1, pad_token_id=0)
    [ours] = checkpoint.generate("w1 w2", max_words=5, top_k=1)
    assert text["generated_text"].split() == words_of(ours)
    [text] = write("w1 w2", max_new_tokens=5, do_sample=False, eos_token_id=-1, pad_token_id=0, return_full_text=False)
    assert text["generated_text"].split() == words_of(ours)[2:]


@pytest.mark.parametrize("original", ["lstm"], indirect=True)
def test_padded_texts_are_refused(folder):
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(ValueError, match="Padded texts are not supported"):
        theirs(torch.zeros(1, 2, dtype=torch.long), attention_mask=torch.tensor([[0, 1]]))


@pytest.mark.parametrize("tie_weights", [True, False])
def test_every_core_comes_back_tied_or_not(core_name, tie_weights, vocabulary, tmp_path):
    config = small_model_config(core_name, tie_weights=tie_weights)
    model = make_model(core_name, tie_weights=tie_weights)
    export_folder(model, vocabulary, {"model": config, "data": {}}, tmp_path / "model")
    loaded = LanguageModel.load(tmp_path / "model").model
    tokens = torch.randint(V, (5, 2))
    assert torch.equal(loaded(tokens)[0], model(tokens)[0])
    assert (loaded.head.decoder.weight is loaded.embedding.weight) == tie_weights


def corrupted(folder, file, change):
    (folder / file).write_bytes(change((folder / file).read_bytes()))


@pytest.mark.parametrize("original", ["lstm"], indirect=True)
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("change", [lambda content: content[: len(content) // 2], lambda content: b""])
def test_damaged_and_missing_files_are_one_line(folder, file, change):
    corrupted(folder, file, change)
    with pytest.raises(UserError, match="is damaged or not one of"):
        LanguageModel.load(folder)
    (folder / file).unlink()
    with pytest.raises(UserError, match="is damaged or not one of"):
        LanguageModel.load(folder)


@pytest.mark.parametrize("original", ["lstm"], indirect=True)
def test_a_strangers_config_calls_nothing_and_takes_no_memory(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["run"]["model"]["core"]["_target_"] = "os.system"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"refused: its config would call os\.system"):
        LanguageModel.load(folder)
    config["run"]["model"]["core"] = {"_target_": "lm.models.RecurrentCore", "_partial_": True, "cell": "lstm"}
    config["run"]["model"]["core"] |= {"hidden_size": 10**10, "num_layers": 1, "dropout": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"model\.core\.hidden_size is 10000000000, but it can be at most"):
        LanguageModel.load(folder)


@pytest.mark.parametrize("original", ["lstm"], indirect=True)
def test_a_folder_that_holds_something_is_left_alone(folder, trained):
    from scripts.export import export

    with pytest.raises(UserError, match="exists and is not an empty folder"):
        export(composed("export", f"ckpt={trained('lstm')}", "format=folder", f"out={folder}"))


@pytest.mark.parametrize("original", ["lstm"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attn_implementation": "stranger/kernels"}, "attn_implementation='stranger/kernels'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
        ({"run": ["model"]}, "no run.model"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
    ],
)
def test_a_strangers_config_lets_transformers_fetch_and_build_nothing(folder, change, message):
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(UserError, match=message):
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))


@pytest.mark.parametrize("original", ["lstm"], indirect=True)
def test_transformers_reads_no_weights_but_those_that_are_checked(folder):
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is damaged or missing"):
        AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def umask():
    old = os.umask(0o027)
    yield
    os.umask(old)


def exported(ckpt, folder, *options):
    from scripts.export import export

    return export(composed("export", f"ckpt={ckpt}", "format=folder", f"out={folder}", *options))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_of_the_bytes_hold_almost_the_same_model_which_computes_in_float32(trained, dtype, tmp_path):
    whole, half = (exported(trained("lstm"), tmp_path / each, f"dtype={each}") for each in ("float32", dtype))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert {weight.dtype for weight in load_file(half / "model.safetensors").values()} == {getattr(torch, dtype)}
    text = " ".join(f"w{i % 20}" for i in range(200))
    exact, ours = (LanguageModel.load(folder).score(text).perplexity for folder in (whole, half))
    assert ours == pytest.approx(exact, rel=0.01)
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(half), AutoTokenizer.from_pretrained(half)
    assert {weight.dtype for weight in theirs.parameters()} == {torch.float32}
    ids = tokenizer(text, return_tensors="pt").input_ids
    log_probs, _ = LanguageModel.load(half).model(ids.T)
    torch.testing.assert_close(theirs(ids).logits[0], log_probs[:, 0])


def test_a_weight_beyond_float16_is_refused(vocabulary, tmp_path):
    model = make_model("lstm")
    with torch.no_grad():
        model.embedding.weight[0, 0] = 1e6
    config = {"model": small_model_config("lstm"), "data": {}}
    with pytest.raises(UserError, match="dtype=float16 given, but a weight is too large for it: use dtype=bfloat16"):
        export_folder(model, vocabulary, config, tmp_path / "model", "float16")
    export_folder(model, vocabulary, config, tmp_path / "model", "bfloat16")


@pytest.mark.parametrize("head", ["softmax", "adaptive"])
def test_tied_weights_are_stored_once_and_tied_again_in_both_models(head, vocabulary, tmp_path):
    overrides = (f"model/head={head}", f"model/embedding={'adaptive' if head == 'adaptive' else 'full'}")
    config = small_model_config("lstm", *overrides, tie_weights=True)
    model = make_model("lstm", *overrides, tie_weights=True)
    export_folder(model, vocabulary, {"model": config, "data": {}}, tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert sum(weight.numel() for weight in stored.values()) == sum(weight.numel() for weight in model.parameters())
    ours = LanguageModel.load(tmp_path / "model").model
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = torch.randint(V, (5, 2))
    assert torch.equal(ours(tokens)[0], model(tokens)[0])
    torch.testing.assert_close(theirs(tokens.T).logits.transpose(0, 1), model(tokens)[0])
    for each in (ours, theirs):
        assert len([*each.parameters()]) == len([*model.parameters()])


def test_files_have_the_modes_of_the_umask_and_name_no_folder_of_this_machine(trained, umask, tmp_path):
    folder = exported(trained("lstm"), tmp_path / "model")
    assert folder.stat().st_mode & 0o777 == 0o750
    files = {file.name: file for file in folder.iterdir()}
    assert {*files} == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for file in files.values():
        assert file.stat().st_mode & 0o777 == 0o640
        content = file.read_bytes()
        assert not any(
            str(place).encode() in content for place in (tmp_path.parent, Path.home(), Path(__file__).parent)
        )


def test_what_is_of_the_authors_machine_or_may_be_secret_is_left_out(vocabulary, tmp_path):
    secret = {"logger": {"mlflow": {"tracking_uri": "https://me:secret@host"}}, "init_from": "secret/best.ckpt"}
    data = {"root": "secret/text", "cache_dir": "secret", "bptt": 35}
    config = {"model": small_model_config("lstm"), "data": data, "run_dir": "secret", "trainer": {"x": "/home/secret"}}
    config["model"]["embedding"]["pretrained"] = "secret/vectors.txt"
    export_folder(make_model("lstm"), vocabulary, config | secret, tmp_path / "model")
    assert "secret" not in (tmp_path / "model" / "config.json").read_text()
