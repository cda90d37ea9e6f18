"""What the page of scripts/explore.py asks the server for."""

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from lm import LanguageModel
from lm.data import EOS
from lm.explore.app import HOST, MOST_WORDS, first_words, make_app
from scripts.explore import explore
from tests.conftest import make_model, mistake


@pytest.fixture
def models(vocabulary):
    return {name: LanguageModel(make_model(name), vocabulary) for name in ("lstm", "transformer")}


@pytest.fixture
def client(models):
    return TestClient(make_app(models, "w1 </textarea>"), base_url=f"http://{HOST}")


def test_the_page_has_the_models_and_the_text_escaped_and_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert json.loads(re.search(r"^const models = (.*);", answer.text, re.MULTILINE)[1]) == [
        {"name": "lstm", "attention": False},
        {"name": "transformer", "attention": True},
    ]
    assert "w1 &lt;/textarea&gt;</textarea>" in answer.text
    assert "http" not in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_every_model_scores_every_line(client, models):
    first, second = client.post("/score", json={"lines": ["w1 zebra", "w2"]}).json()
    for answer, model in ((first, models["lstm"]), (second, models["transformer"])):
        expected = model.score("w1 zebra", top=10)
        assert answer[0]["words"] == ["w1", "zebra", EOS]
        assert answer[0]["known"] == [True, False, True]
        assert answer[0]["log_probs"] == pytest.approx(expected.log_probs)
        assert answer[0]["ranks"] == expected.ranks
        assert len(answer[0]["top_log_probs"][0]) == 10
        assert answer[1]["words"] == ["w2", EOS]


@pytest.mark.parametrize("prompt", ["", "w1", "w1 ", "w1 w2\n", "w1\nw2", "w1\nw2\n\n"])
def test_a_prompt_with_its_continuation_is_what_generate_gives(client, models, prompt):
    options = {"max_words": 12, "temperature": 0.8, "top_p": 0.9, "seed": 3}
    answer = client.post("/continue", json={"model": 1, "prompt": prompt, **options})
    [expected] = models["transformer"].generate(prompt, **options)
    assert prompt + answer.text == expected


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/continue", {"model": 0, "prompt": "", "temperature": 0}, "temperature=0 given, but it must be above 0"),
        ("/continue", {"model": 0, "prompt": "", "num_samples": 9}, "option=num_samples given, but it must be one of"),
        ("/continue", {"model": 0, "prompt": "", "max_words": 10**9}, "it is at most 1000 here"),
        ("/score", {"lines": ["w " * MOST_WORDS, "w"]}, f"at most {MOST_WORDS:,} are scored"),
    ],
)
def test_a_mistake_is_a_message(client, path, content, message):
    answer = client.post(path, json=content)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_figures_are_drawn_of_a_line_and_attention_of_a_transformer_alone(client):
    for view, model in (("heat_map", 0), ("heat_map", 1), ("attention", 1)):
        answer = client.get(f"/{view}.png", params={"model": model, "line": "w1 zebra w2"})
        assert answer.content.startswith(b"\x89PNG")
    refused = client.get("/attention.png", params={"model": 0, "line": "w1"})
    assert "only a Transformer has any" in refused.json()["error"]
    assert client.get("/other.png", params={"model": 0, "line": "w1"}).status_code == 404


def test_attention_is_drawn_of_as_many_words_as_a_transformer_has_positions(client, models):
    context = models["transformer"].model.core.context
    line = " ".join(["w1"] * (context + 5))
    assert client.get("/attention.png", params={"model": 1, "line": line}).content.startswith(b"\x89PNG")
    assert len(first_words(models["transformer"], line, context - 1).split()) == context - 1


def test_a_page_of_another_site_cannot_let_the_models_compute(client):
    """A browser sends another site's JSON only after asking, but a form, plain text or an image's address at once."""
    posted = client.post("/score", content='{"lines": ["w1"]}', headers={"Content-Type": "text/plain"})
    assert posted.status_code == 400
    asked = client.options("/score", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"})
    assert asked.status_code >= 400
    assert "access-control-allow-origin" not in asked.headers
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        shown = client.get("/heat_map.png", params={"model": 0, "line": "w1"}, headers={"Sec-Fetch-Site": site})
        assert shown.status_code == status


def test_requests_at_the_same_time_do_not_disturb_each_other(client):
    """Attention is read by hooks, which must not see what another thread computes."""

    def score(i: int) -> list[float]:
        models = client.post("/score", json={"lines": [f"w1 w{i} w2"]}).json()
        return [log_prob for [line] in models for log_prob in line["log_probs"]]

    def draw(i: int) -> bytes:
        return client.get("/attention.png", params={"model": 1, "line": f"w{i} w2 w3 w4"}).content

    drawn = [draw(i) for i in range(2)]
    with ThreadPoolExecutor(8) as threads:
        pairs = [(threads.submit(score, i), threads.submit(draw, i)) for i in range(2)]
    assert [figure.result() for _, figure in pairs] == drawn
    for i, (scores, _) in enumerate(pairs):
        assert scores.result() == pytest.approx(score(i))


def test_a_page_of_another_name_for_this_machine_is_refused(models):
    """As an attacker's page would ask whose name resolves to 127.0.0.1."""
    assert TestClient(make_app(models), base_url="http://evil.example").get("/").status_code == 400


def test_mistakes_of_the_command_line_are_one_line(trained):
    ckpt = trained("lstm")
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port={port} given, but it cannot be used" in mistake(explore, f"ckpt={ckpt}", f"port={port}")
    assert "at most two models are compared" in mistake(explore, f"ckpt=[{ckpt},{ckpt},{ckpt}]")
    assert "port=70000 given, but it must be" in mistake(explore, f"ckpt={ckpt}", "port=70000")
