"""Upload to a local stand-in of the Hub, and each mistake in a line."""

import base64
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scripts.export import export
from tests.conftest import mistake, run


class StandIn(BaseHTTPRequestHandler):
    """What an upload asks of the Hub: a new repository, how to send each file, a commit."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        if self.server.status != 200:
            self.answer({"error": "refused"}, self.server.status)
        elif self.path == "/api/validate-yaml" and self.server.card_is_refused:
            self.answer({"errors": [{"message": "license must be one of those"}]}, 400)
        elif self.path == "/api/repos/create":
            self.answer({"url": f"{self.server.address}/me/model", "id": "me/model", "name": "me/model"})
        elif "/preupload/" in self.path:
            paths = [each["path"] for each in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self.answer({"files": files})
        else:
            self.answer({"commitUrl": f"{self.server.address}/me/model/commit/0", "commitOid": "0" * 40})

    def do_GET(self):
        self.answer({"siblings": [], "id": "me/model", "name": "me"})

    def answer(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        server.address, server.asked, server.status = f"http://127.0.0.1:{server.server_port}", [], 200
        server.card_is_refused = False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def uploaded(ckpt, address, home, *options, **variables):
    own = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_secret", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment = {name: value for name, value in (os.environ | own | variables).items() if value}
    return run("export", f"ckpt={ckpt}", "format=hub", "repo=me/model", *options, env=environment)


def test_the_folder_is_uploaded_as_one_commit(trained, server, tmp_path):
    done = uploaded(trained("lstm"), server.address, tmp_path, "repo=2024", "private=true", "dtype=bfloat16")
    assert (done.returncode, done.stdout) == (0, f"hub: {server.address}/me/model\n"), done.stderr
    created, commit = server.asked[0], server.asked[-1]
    assert created[0] == "/api/repos/create"
    asked = json.loads(created[2])  # older releases ask for `private`, newer ones for a `visibility`
    assert asked["name"] == "2024"  # in Hydra a number
    assert asked.get("private") is True or asked.get("visibility") == "private"
    assert {token for _, token, _ in server.asked} == {"Bearer hf_secret"}
    lines = [json.loads(line)["value"] for line in commit[2].splitlines()]
    files = {line["path"]: base64.b64decode(line["content"]) for line in lines if "path" in line}
    assert {*files} == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert b"stored as bfloat16" in files["README.md"]
    assert "hf_secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("status", [403, pytest.param(500, marks=pytest.mark.slow)])  # 500 is tried again for seconds
def test_a_refusal_is_one_line(trained, server, monkeypatch, status):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.status = status
    said = mistake(export, f"ckpt={trained('lstm')}", "format=hub", "repo=me/model")
    assert said.startswith(f"The Hub has refused the upload to repo=me/model (HTTP {status})")
    assert ("log in" in said) == (status < 500)


@pytest.mark.slow
def test_a_model_card_that_the_hub_refuses_is_one_line(trained, server, tmp_path):
    server.card_is_refused = True
    done = uploaded(trained("lstm"), server.address, tmp_path, "license=mine")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("The Hub has refused the model card: give another license=.")
    assert last.endswith("license must be one of those")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["nobody answers", "offline mode"])
def test_no_network_is_one_line(trained, tmp_path, variables):
    done = uploaded(trained("lstm"), "http://127.0.0.1:9", tmp_path, **variables)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("The Hub cannot be reached (")
    assert "Traceback" not in done.stderr


def test_without_a_token_nothing_is_exported(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    said = mistake(export, "ckpt=nothing", "format=hub", "repo=me/model")
    assert said.startswith("format=hub given, but you are not logged in: log in by")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["format=hub", "repo=a/b", "out=x"],
            "out=x given, but it is for format=onnx or format=folder or format=vectors only",
        ),
        (["format=onnx", "repo=a/b"], "repo=a/b given, but it is for format=hub only"),
        (["format=folder", "private=false"], "private=False given, but it is for format=hub only"),
        (["format=vectors", "license=mit"], "license=mit given, but it is for format=folder or format=hub only"),
    ],
)
def test_what_another_format_takes_is_refused(options, message):
    assert message in mistake(export, "ckpt=nothing", *options)


@pytest.mark.parametrize("repo", ["a/b/c", "-x", "a b", "x" * 97, "a..b"])
def test_a_malformed_name_is_one_line(repo):
    assert "it must be NAME or OWNER/NAME" in mistake(export, "ckpt=nothing", "format=hub", f"repo='{repo}'")


def test_a_name_is_needed_and_so_is_the_package(monkeypatch):
    assert "no repo: give repo=NAME" in mistake(export, "ckpt=nothing", "format=hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install -e '.[hub]'" in mistake(export, "ckpt=nothing", "format=hub", "repo=a/b")
