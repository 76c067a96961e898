"""The hub: out of reach, silent, refusing, and giving a model, by a small server that speaks like it."""

import hashlib
import http.server
import json
import logging
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from stmmr import InputError
from stmmr.encoders import TransformersEncoder, encoder_of
from stmmr.encoders._hub import ModelFiles, best_weights, find_model

pytest.importorskip("transformers")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Repository `lab/vit` of the files in `files`; `refused` names the error that files are answered with."""

    files: dict
    refused = ""
    asked: list

    def do_GET(self):
        self.asked.append(self.path)
        about = {"id": "lab/vit", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
        if not self.path.removeprefix("/api/models").startswith("/lab/vit"):
            return self.answer(b'{"error": "Repository not found"}', 404, {"X-Error-Code": "RepoNotFound"})
        if "/tree/" in self.path:
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}  # noqa: S324
                for name, body in self.files.items()
            ]
            return self.answer(json.dumps(tree).encode())
        if self.path.startswith("/api/"):
            return self.answer(json.dumps(about).encode())
        if self.refused:
            return self.answer(b"{}", 403, {"X-Error-Code": self.refused})
        body = self.files[self.path.split("/")[-1]]
        return self.answer(body, 200, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET  # noqa: N815 (http.server looks for this name)

    def answer(self, body, status=200, headers=None):
        self.send_response(status)
        for name, value in ((headers or {}) | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def endpoint(monkeypatch, url):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    for module in ("constants", "file_download"):  # the latter before 1.0
        name = f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(name, url + "/{repo_id}/resolve/{revision}/{filename}", raising=False)


@pytest.fixture
def hub(models, cache, monkeypatch):
    handler = type(
        "Handler", (Hub,), {"files": {p.name: p.read_bytes() for p in (models / "vit").iterdir()}, "asked": []}
    )
    handler.files["pytorch_model.bin"] = b"the same as a pickle"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()


def fitted(encoder):
    return encoder.fit(np.zeros((1, 1, 32, 32, 3), dtype=np.uint8), um_per_px=0.5)


def test_model_of_the_hub_is_downloaded_once(hub, models, patches, cache, monkeypatch, caplog):
    encoder = encoder_of("lab/vit")
    assert isinstance(encoder, TransformersEncoder)
    assert not any("safetensors" in path for path in hub.asked)  # the weights wait until they are wanted
    np.testing.assert_array_equal(
        fitted(encoder)(patches(32)), fitted(TransformersEncoder(models / "vit"))(patches(32))
    )
    assert not any("pytorch_model" in path for path in hub.asked)
    hub.asked.clear()
    again = fitted(TransformersEncoder("lab/vit"))
    assert again.fingerprint == encoder.fingerprint
    assert not any("/resolve/" in path for path in hub.asked)

    endpoint(monkeypatch, "http://127.0.0.1:9")  # nobody there
    with caplog.at_level(logging.INFO, logger="stmmr"):
        away = fitted(TransformersEncoder("lab/vit"))
    assert "files in the cache are used" in caplog.text
    assert away.fingerprint == encoder.fingerprint


def test_gated_model(hub):
    hub.refused = "GatedRepo"
    with pytest.raises(
        InputError, match=r"access to the model lab/vit.*huggingface.co/lab/vit, then run: hf auth login"
    ):
        TransformersEncoder("lab/vit")


def test_unknown_model(hub):
    with pytest.raises(InputError, match=r"no model called 'lab/other'.*stmmr.pp.encoders"):
        TransformersEncoder("lab/other")
    with pytest.raises(InputError, match=r"no model called '-x'"):
        TransformersEncoder("-x")


def test_repository_without_configuration(hub):
    del hub.files["config.json"]
    with pytest.raises(InputError, match=r"model with a config.json, found model.safetensors"):
        TransformersEncoder("lab/vit")


def test_no_network_says_so_at_once(tmp_path):
    code = (
        "import time, stmmr, stmmr.encoders\n"
        "import transformers, torch\n"
        "start = time.perf_counter()\n"
        "try:\n    stmmr.encoders.encoder_of('phikon')\n"
        "except stmmr.InputError as error:\n    print(time.perf_counter() - start, error)\n"
    )
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    seconds, _, message = out.stdout.partition(" ")
    assert float(seconds) < 5
    assert "no connection" in message
    assert "hf download owkin/phikon --local-dir FOLDER" in message


def test_network_that_swallows_everything(cache, monkeypatch):
    monkeypatch.setattr("stmmr.encoders._hub.TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(InputError, match="no connection"):
            TransformersEncoder("lab/vit")
        assert time.perf_counter() - start < 5


def test_offline_mode(cache, monkeypatch):
    from huggingface_hub import utils

    new_session = getattr(utils, "reset_sessions", lambda: None)  # before 1.0, a session knows whether it is offline
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    new_session()
    with pytest.raises(InputError, match=r"no connection \(OfflineModeIsEnabled\)"):
        TransformersEncoder("lab/vit")
    monkeypatch.undo()
    new_session()


def test_connection_lost_before_the_weights(hub, monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    encoder = TransformersEncoder("lab/vit")

    def lost(*_, **__):
        raise LocalEntryNotFoundError("lost")

    monkeypatch.setattr("huggingface_hub.snapshot_download", lost)
    with pytest.raises(InputError, match="no connection"):
        fitted(encoder)


def test_folders_that_are_none(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"folder of a model, with a config.json, found notes.txt in"):
        find_model(tmp_path)
    with pytest.raises(InputError, match=r"found the file .*Give the folder"):
        find_model(tmp_path / "notes.txt")
    for name in (tmp_path / "nothing", f"{tmp_path}/nothing", "a b"):
        with pytest.raises(InputError, match=r"found neither at"):
            find_model(name)


def test_best_weights():
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert best_weights([*shards, "pytorch_model.bin", "config.json"]) == shards
    assert best_weights(["pytorch_model.bin", "training_args.bin"]) == ["pytorch_model.bin"]
    assert best_weights(["README.md"]) == []


def test_pickled_weights_are_no_reason_to_unpickle(tmp_path):
    error = RuntimeError("Weights only load failed.\n(1) In PyTorch 2.6 … set `weights_only=False`, do so only if …")
    message = str(ModelFiles(tmp_path, "model").unloadable(error, by="timm"))
    assert "could run code" in message
    assert ".safetensors" in message
    assert "weights_only" not in message
