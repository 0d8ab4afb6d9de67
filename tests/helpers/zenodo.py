"""A local HTTP server with Zenodo's interface and, on request, the faults of bad connections."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RECORD = "10888190"


class Zenodo:
    """One record; state is its files, the faults still to come, and the requests seen."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.listed: dict[str, dict[str, Any]] = {}
        """What the listing says otherwise of a file, by its name."""
        self.faults: list[dict[str, Any]] = []
        """Of the next requests for a file: status, headers, drop_after, stall_after and
        stall_s, ignore_range, close."""
        self.listing_faults: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range of each request."""

    @property
    def records(self) -> str:
        return f"{self.url}/api/records"

    def listing(self) -> bytes:
        return json.dumps({"id": int(RECORD), "files": [*map(self._entry, self.files)]}).encode()

    def _entry(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        return {
            "id": "f",
            "key": name,
            "size": len(data),
            "checksum": f"md5:{hashlib.md5(data).hexdigest()}",
            "links": {"self": f"{self.records}/{RECORD}/files/{name}/content"},
        } | self.listed.get(name, {})

    def ranges(self) -> list[str | None]:
        """The Range of each request for a file."""
        return [wanted for path, wanted in self.requests if path.endswith("/content")]


class _Handler(BaseHTTPRequestHandler):
    zenodo: Zenodo

    def do_GET(self) -> None:
        self.zenodo.requests.append((self.path, self.headers.get("Range")))
        if self.path == f"/api/records/{RECORD}":
            self._answer(self.zenodo.listing(), self._next(self.zenodo.listing_faults))
        elif self.path.endswith("/content"):
            data = self.zenodo.files.get(self.path.split("/")[-2], b"")
            self._answer(data, self._next(self.zenodo.faults))
        else:
            self.send_error(404)

    def _next(self, faults: list[dict[str, Any]]) -> dict[str, Any]:
        return faults.pop(0) if faults else {}

    def _answer(self, data: bytes, fault: dict[str, Any]) -> None:
        if fault.get("close"):
            self.close_connection = True
            return
        if status := fault.get("status"):
            self.send_response(status)
            self._end(fault.get("headers", {}) | {"Content-Length": "0"})
            return
        start, headers = self._start(data, fault)
        self._end(headers | fault.get("headers", {}))
        body = data[start:]
        cut = fault.get("drop_after", fault.get("stall_after", len(body)))
        with suppress(ConnectionError):  # the client may have refused by the headers
            self.wfile.write(body[:cut])
        time.sleep(fault.get("stall_s", 0))
        self.close_connection = True

    def _start(self, data: bytes, fault: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """First byte to send, and headers; sends the status line."""
        wanted = self.headers.get("Range")
        if wanted is None or fault.get("ignore_range"):
            self.send_response(200)
            return 0, {"Content-Length": str(len(data))}
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206)
        content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return start, {"Content-Length": str(len(data) - start), "Content-Range": content_range}

    def _end(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """The tests look at `requests` instead."""


@contextmanager
def serve() -> Iterator[Zenodo]:
    """A record without files, on a free port of this machine."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.zenodo = Zenodo(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield handler.zenodo
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
