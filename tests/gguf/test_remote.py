"""Remote files by ranges, from a server of our own: what is fetched, and what servers do wrong."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import workbench as wb
from tests.gguf.test_shards import WEIGHTS, write_split
from workbench.errors import GGUFError, GGUFNotFoundError, ParameterError
from workbench.gguf import remote, write_gguf

BIG = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)  # 4 MiB, which nobody asks for


@contextmanager
def serving(folder, fault=""):
    """The address of a server of a folder's files; fault: what it does wrong."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            asked.append(self.headers["Range"])
            content = path.read_bytes()
            low, high = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            high = min(high, len(content) - 1)
            if fault == "whole":
                low, high = 0, len(content) - 1
            if fault == "shifted" and low:
                low += 8
            part = content[low : high + 1]
            self.send_response({"whole": 200, "login": 403}.get(fault, 206))
            self.send_header("Content-Length", str(len(part)))
            size = 10**30 if fault == "endless" else len(content)
            self.send_header("Content-Range", f"bytes {low}-{high}/{size}")
            self.send_header("ETag", f'"{len(asked)}"' if fault == "changing" else '"1"')
            self.end_headers()
            cut = len(part) // 2 if fault == "cut" or (fault == "cut later" and low) else len(part)
            try:
                self.wfile.write(part[:cut])
            except (BrokenPipeError, ConnectionResetError):
                pass  # the reader has seen enough
            if cut < len(part):
                self.close_connection = True

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "FIRST", 4096)  # so that a vocabulary takes several requests
    words = [f"word {i}" for i in range(3000)]
    metadata = {"general.architecture": "llama", "tokenizer.ggml.tokens": words}
    write_gguf(tmp_path / "model.gguf", metadata, {**WEIGHTS, "big": BIG})
    return tmp_path


def test_only_the_header_and_the_tensors_asked_for_are_fetched(folder):
    with serving(folder) as (url, asked), wb.open_gguf(f"{url}/model.gguf") as gguf:
        assert gguf.metadata["tokenizer.ggml.tokens"][2999] == "word 2999"
        assert gguf.size == (folder / "model.gguf").stat().st_size
        header = gguf.n_fetched
        assert gguf.data_offset <= header < 4 * gguf.data_offset < gguf.size / 8
        np.testing.assert_array_equal(gguf.dequantize("blk.3.weight"), WEIGHTS["blk.3.weight"])
        n_requests = len(asked)
        gguf.raw("blk.3.weight")
        assert len(asked) == n_requests <= 9
        assert gguf.n_fetched - header <= WEIGHTS["blk.3.weight"].nbytes
        assert f"{gguf.n_fetched} of them fetched" in repr(gguf)


def test_what_was_fetched_stays_after_close(folder):
    with serving(folder) as (url, _):
        with wb.open_gguf(f"{url}/model.gguf") as gguf:
            view = gguf.raw("blk.1.weight")
        assert view.tobytes() == WEIGHTS["blk.1.weight"].tobytes()
        assert gguf.metadata["tokenizer.ggml.tokens"][7] == "word 7"
        with pytest.raises(GGUFError, match="the file is closed"):
            gguf.raw("blk.2.weight")


def test_a_remote_file_is_the_local_one(folder):
    with (
        serving(folder) as (url, _),
        wb.open_gguf(f"{url}/moved/model.gguf") as there,
        wb.open_gguf(folder / "model.gguf") as here,
    ):
        assert list(there.metadata) == list(here.metadata)
        for name in here.tensors:
            np.testing.assert_array_equal(there.raw(name), here.raw(name))
        assert there.n_fetched <= there.size


def test_a_remote_split_model_is_opened_whole(tmp_path):
    write_split(tmp_path)
    with serving(tmp_path) as (url, _):
        with wb.open_gguf(f"{url}/model-00002-of-00003.gguf") as gguf:
            assert list(gguf.tensors) == list(WEIGHTS)
            np.testing.assert_array_equal(gguf.dequantize("blk.4.weight"), WEIGHTS["blk.4.weight"])
        (tmp_path / "model-00003-of-00003.gguf").unlink()
        with pytest.raises(GGUFError, match=r"model-00003-of-00003\.gguf: this shard .* missing"):
            wb.open_gguf(f"{url}/model-00001-of-00003.gguf")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("whole", r"sends only whole files; expected HTTP status 206 .* got 200; download"),
        ("login", r"the server refuses; expected HTTP status 206, got 403"),
        ("cut", r"the connection was cut; expected 4096 bytes from byte 0 on, got 2048; try again"),
        ("cut later", r"the connection was cut; expected \d+ bytes from byte \d{4,} on"),
        ("shifted", r"sends other bytes; expected bytes 4096-\d+ of the file, got Content-Range"),
        ("endless", r"no temporary file can be so large; .* got 10{30} bytes"),
        ("changing", r"the file has changed on the server; expected \d+ bytes and tag \"1\""),
    ],
)
def test_what_a_server_does_wrong_is_said_in_a_sentence(folder, fault, said):
    with serving(folder, fault) as (url, _), pytest.raises(GGUFError, match=said):
        wb.open_gguf(f"{url}/model.gguf")


def test_a_file_that_is_not_there_and_a_server_that_is_not_there(folder):
    with serving(folder) as (url, _):
        with pytest.raises(GGUFNotFoundError, match=r"no such file; .* got HTTP status 404"):
            wb.open_gguf(f"{url}/other.gguf")
    with pytest.raises(GGUFError, match="the connection failed at bytes 0 to"):
        wb.open_gguf(f"{url}/model.gguf")


def test_remote_files_are_checked_as_local_ones(folder):
    (folder / "page.gguf").write_bytes(b"<html>" * 2000)
    (folder / "short.gguf").write_bytes((folder / "model.gguf").read_bytes()[:-4096])
    (folder / "half.gguf").write_bytes((folder / "model.gguf").read_bytes()[:40_000])
    with serving(folder) as (url, asked):
        with pytest.raises(GGUFError, match="it looks like a web page"):
            wb.open_gguf(f"{url}/page.gguf")
        with pytest.raises(GGUFError, match="'big': data passes the end of the file"):
            wb.open_gguf(f"{url}/short.gguf")
        with pytest.raises(GGUFError, match=r"tokenizer.ggml.tokens.* passes the end of the file"):
            wb.open_gguf(f"{url}/half.gguf")
        assert len(asked) < 12


def test_hub_addresses_name_owner_repository_and_file(monkeypatch):
    address, _ = remote._resolved("hf://owner/repo@v1/sub/model.gguf")
    assert address.endswith("/owner/repo/resolve/v1/sub/model.gguf")
    with pytest.raises(ParameterError, match=r"expected hf://owner/repository/file.gguf"):
        wb.open_gguf("hf://owner/model.gguf")
    with pytest.raises(ParameterError, match=r"not a repository of the hub; .* 'hf://a b/c/"):
        wb.open_gguf("hf://a b/c/model.gguf")


def test_what_is_no_address_is_refused():
    with pytest.raises(ParameterError, match=r"not an address; expected https://"):
        wb.open_gguf("https://\x00/model.gguf")
