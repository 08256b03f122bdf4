"""A real S3 server on loopback (moto's), behind a proxy that counts, waits and does harm.

    python benchmarks/s3_server.py [--latency 0.03]     # to try a store at s3://bucket/… by hand

The proxy understands just enough HTTP to tell one request from the next. With a seed it answers
some with 503, closes some connections before the request has gone on, and some after the server
has done what it says: the answer is lost.
"""

import argparse
import contextlib
import http.client
import random
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
}


class Proxy:
    """What happens between a client and the server."""

    def __init__(self, server_port: int):
        self.latency = 0.0  # seconds before each request goes on
        # busy, denied, read only, careless, before, after → the share of requests that meet it
        self.harm: dict[str, float] = {}
        self.requests: list[tuple[str, str]] = []  # method and path with query
        self.bytes_out = 0  # of bodies to the client
        # objects of which ranges are answered here: moto reads all of an object for each of them
        self.held: dict[str, tuple[list[tuple[str, str]], bytes]] | None = None
        self._server_port, self._random = server_port, random.Random(0)
        proxy = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError, TimeoutError):
                    proxy._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            request_queue_size = 128

        self._listener = Server(("127.0.0.1", 0), Connection)
        self.endpoint = f"http://127.0.0.1:{self._listener.server_address[1]}"
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def reset(self, *, latency: float = 0.0, seed: int = 0, **harm: float) -> None:
        """Begin anew to count; `harm` is the share of requests that meet each kind."""
        self._random = random.Random(seed)
        self.latency, self.harm = latency, harm
        self.requests, self.bytes_out = [], 0

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown()
        self._listener.server_close()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = client.makefile("rb", 1 << 20)
        server = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=60)
        with contextlib.closing(server):
            self._forward(client, stream, server)

    def _forward(
        self, client: socket.socket, stream: BinaryIO, server: http.client.HTTPConnection
    ) -> None:
        while line := stream.readline():
            method, path, _ = line.decode().split(" ", 2)
            headers = http.client.parse_headers(stream)
            body = stream.read(int(headers.get("content-length", 0)))
            self.requests.append((method, path))
            time.sleep(self.latency)
            harm = self._next_harm()
            if harm == "busy":
                _answer(client, 503, [], SLOW_DOWN)
                continue
            if harm == "careless":
                del headers["if-none-match"]
            if harm == "denied" or (harm == "read only" and method == "PUT"):
                _answer(client, 403, [], b"<Error><Code>InvalidAccessKeyId</Code></Error>")
                continue
            if harm == "before":
                _reset(client)
                return
            span = headers.get("range")
            if self.held is not None and method == "GET" and span:
                self._answer_range(client, server, path, headers)
                continue
            server.request(method, path, body=body or None, headers=dict(headers.items()))
            answer = server.getresponse()
            data = answer.read()
            if harm == "after":
                _reset(client)
                return
            self.bytes_out += len(data)
            size = answer.headers.get("content-length") if method == "HEAD" else None
            _answer(client, answer.status, answer.getheaders(), data, size)

    def _answer_range(
        self,
        client: socket.socket,
        server: http.client.HTTPConnection,
        path: str,
        headers: http.client.HTTPMessage,
    ) -> None:
        if path not in self.held:
            whole = {k: v for k, v in headers.items() if k.lower() != "range"}
            server.request("GET", path, headers=whole)
            answer = server.getresponse()
            self.held[path] = (answer.getheaders(), answer.read())
        about, data = self.held[path]
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        begin = int(first) if first else len(data) - int(last)  # "bytes=-4": the last four
        end = min(int(last) + 1, len(data)) if first and last else len(data)
        self.bytes_out += end - begin
        about = [*about, ("content-range", f"bytes {begin}-{end - 1}/{len(data)}")]
        _answer(client, 206, about, memoryview(data)[begin:end])

    def _next_harm(self) -> str:
        point = self._random.random()
        for kind, share in self.harm.items():
            if point < share:
                return kind
            point -= share
        return ""


def _answer(
    client: socket.socket,
    status: int,
    headers: list[tuple[str, str]],
    data: bytes | memoryview,
    size: str | None = None,
) -> None:
    kept = [f"{k}: {v}" for k, v in headers if k.lower() not in _OURS]
    head = [f"HTTP/1.1 {status} X", *kept, f"content-length: {size or len(data)}", "", ""]
    client.sendall("\r\n".join(head).encode())
    client.sendall(data)


_OURS = ("content-length", "connection", "transfer-encoding")


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextlib.contextmanager
def s3_server() -> Iterator[Proxy]:
    """A server without buckets, and the proxy in front of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        proxy = Proxy(port)
        yield proxy
        proxy.close()
    finally:
        process.kill()
        process.wait()


def make_bucket(proxy: Proxy, name: str) -> None:
    """Make a bucket as an administrator does."""
    place = proxy.endpoint.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(place)) as connection:
        connection.request("PUT", f"/{name}")
        connection.getresponse().read()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/moto-api/")
            connection.getresponse().read()
            return
        time.sleep(0.05)
    raise RuntimeError(f"moto's server ended with {process.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency", type=float, default=0.0, help="Seconds before each request.")
    options = parser.parse_args()
    with s3_server() as proxy, contextlib.suppress(KeyboardInterrupt):
        make_bucket(proxy, "bucket")
        proxy.latency = options.latency
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": proxy.endpoint}.items():
            print(f"export {name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
