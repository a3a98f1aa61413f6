"""A real server on loopback that misbehaves where its paths say so."""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.fetch.faulty import FaultyServer

CONTENT = bytes(range(256)) * 40


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(self.path)
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        if name in ("missing.bin", "gone.parquet"):
            self._answer(404, b"<html>not here</html>", "text/html")
        elif name == "broken.bin":
            self._answer(500, b"oops", "text/plain")
        elif name == "page.bin":
            self._answer(200, b"<html>please log in</html>", "text/html; charset=utf-8")
        elif name == "sly.bin":
            self._answer(200, b"\n <!DOCTYPE html><html>please log in</html>", "application/octet-stream")
        elif name == "short.bin":
            self._answer(200, CONTENT[:1000], "application/octet-stream", announced=len(CONTENT))
            self.close_connection = True
        elif name == "moved.bin":
            self.send_response(302)
            self.send_header("Location", "/elsewhere/file.bin")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._answer(200, self.server.files.get(self.path, CONTENT), "application/octet-stream")

    def _answer(self, status, body, kind, announced=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(announced or len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client hangs up on a bad answer, as it should
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """A running server; ``.base`` is its address, ``.requests`` the paths asked for, ``.files`` what it holds."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.requests, http.files = [], {}
    http.base = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def faulty(monkeypatch):
    """A server that misbehaves as planned, see :class:`tests.fetch.faulty.FaultyServer`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture
def closed_port(monkeypatch):
    """A loopback address where nobody listens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to connect is a failure of the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """No test waits; the list holds the seconds that would have been waited for."""
    seconds = []
    monkeypatch.setattr("morphobench.fetch.policy.pause", seconds.append)
    return seconds
