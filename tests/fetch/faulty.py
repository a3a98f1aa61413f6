"""A real server on loopback that misbehaves exactly as each test plans."""

import hashlib
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Resource:
    """What the server has under one path.

    ``faults`` are used up, one a GET: ``{"drop": n}`` sends n bytes of the body and resets the connection,
    ``{"close": n}`` closes it politely, ``{"status": code, "headers": {...}}`` answers so,
    ``{"change": bytes}`` puts other content there before answering, ``{"flip": i}`` damages one byte on the way,
    ``None`` answers well.
    """

    content: bytes
    headers: dict = field(default_factory=dict)
    ranges: bool = True
    etag: bool = True
    once: bool = False
    head: int = 200
    faults: list = field(default_factory=list)

    @property
    def tag(self):
        return '"' + hashlib.md5(self.content).hexdigest()[:16] + '"'


@dataclass
class Request:
    method: str
    path: str
    headers: dict


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._serve(body=False)

    def do_GET(self):
        self._serve(body=True)

    def _serve(self, *, body):
        self.server.seen.append(Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        resource = self.server.have.get(self.path)
        if callable(resource):
            resource = resource(self.path)
        if resource is None:
            return self._plain(404, {}, b"no such file" if body else b"")
        if isinstance(resource, str):
            return self._plain(302, {"Location": resource}, b"")
        if not body and resource.head != 200:
            return self._plain(resource.head, {}, b"")
        if resource.once and body:
            self.server.have[self.path] = Resource(b"", faults=[{"status": 403}] * 100)
        with self.server.lock:
            fault = resource.faults.pop(0) if body and resource.faults else None
        fault = fault or {}
        if "status" in fault:
            return self._plain(fault["status"], fault.get("headers", {}), b"not now")
        if "change" in fault:
            resource.content = fault["change"]
        return self._content(resource, fault, body=body)

    def _content(self, resource, fault, *, body):
        content, start, status = resource.content, 0, 200
        headers = {"Content-Type": "application/octet-stream", **resource.headers}
        if resource.etag:
            headers.setdefault("ETag", resource.tag)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        known = headers.get("ETag"), headers.get("Last-Modified")
        if asked and resource.ranges and self.headers.get("If-Range", known[0]) in known:
            start, stop = int(asked[1]), int(asked[2]) + 1 if asked[2] else len(content)
            stop = min(stop, len(content))
            if start >= len(content):
                return self._plain(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            status = 206
            first = start + fault.get("shift", 0)
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(content)}"
            content = content[start:stop]
        if "flip" in fault:
            content = bytes(b ^ 255 if i == fault["flip"] else b for i, b in enumerate(content))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return None
        for kind in ("drop", "close"):
            if kind in fault:
                self.wfile.write(content[: fault[kind]])
                self.wfile.flush()
                self.close_connection = True
                if kind == "drop" and not content[: fault[kind]]:
                    # Without a byte in flight a reset is safe to send; with some it could overtake them.
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return None
        self.wfile.write(content)
        return None

    def _plain(self, status, headers, content):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if self.command == "GET" else b"")

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up, as it should on bad answers, is no news."""


class FaultyServer:
    """``base`` is the address, ``have`` path to Resource (or an address to redirect to, or a function)."""

    def __init__(self):
        self.http = _Server(("127.0.0.1", 0), _Handler)
        self.http.have, self.http.seen, self.http.lock = {}, [], threading.Lock()
        self.have, self.seen = self.http.have, self.http.seen
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def put(self, path, content, **options):
        self.have[path] = Resource(content, **options)
        return self.base + path

    def asked(self, method="GET"):
        """The Range headers of all requests of one method, in order; None where there was none."""
        return [r.headers.get("range") for r in self.seen if r.method == method]

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
