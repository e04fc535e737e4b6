"""The proxy of docker-compose.yml, for real: HAProxy with our configuration, two services, and names that change."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from patient.record import EXAMPLE
from tests.conftest import ROOT
from tests.deploy.tools import run
from tests.e2e.serving import free_port

PROXY = ROOT / "deploy/proxy"
ADDRESSES = ("127.0.0.2", "127.0.0.3")  # of the two services


class Names(threading.Thread):
    """A name server that answers every question for an address with `addresses`, as Docker's does for a service."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.addresses = [*ADDRESSES]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.start()

    def run(self) -> None:
        """Until an empty question comes."""
        asked, sender = self.socket.recvfrom(4096)
        while asked:
            question = asked[12 : asked.index(b"\0", 12) + 5]
            addresses = self.addresses if question[-4:] == b"\0\1\0\1" else []
            record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4"  # the name asked for, an address, of 4 bytes
            records = b"".join(record + socket.inet_aton(address) for address in addresses)
            counts = b"\0\1" + len(addresses).to_bytes(2) + b"\0\0\0\0"
            self.socket.sendto(asked[:2] + b"\x81\x80" + counts + question + records, sender)
            asked, sender = self.socket.recvfrom(4096)

    def stop(self) -> None:
        """Ask it, and wait until it has ended."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self.join()
        self.socket.close()


@dataclass
class Proxy:
    """What a client knows of it, the names that it asks for, and what stands behind it."""

    port: int
    trust: ssl.SSLContext
    names: Names
    services: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body, over a connection of its own."""
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.trust, timeout=30)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def predictions(self, number: int) -> set[int]:
        """The statuses of so many single records."""
        return {self.ask("POST", "/predict", EXAMPLE)[0] for _ in range(number)}

    def rows(self, address: str, port: int) -> float:
        """How many single records one service has answered."""
        connection = http.client.HTTPConnection(address, port)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return float(next(line for line in lines if line.startswith('heart_rows_total{way="single"}')).split()[1])


def until(true: Callable[[], bool], what: str) -> None:
    """Returns once it is."""
    for _ in range(300):
        try:
            if true():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"never {what}")


def until_asked(proxy: Proxy, inner: int, address: str) -> None:
    """Returns once the proxy has shared a request with the service of this address."""
    until(lambda: proxy.predictions(1) == {200} and proxy.rows(address, inner) > 0, f"asked {address}")


@contextmanager
def balancing(folder: Path, inner: int, **limits: str) -> Iterator[Proxy]:
    """HAProxy, with these variables, before whatever listens on the port `inner` of the addresses of its names."""
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed")
    run("sh", str(PROXY / "certificate.sh"), str(folder))
    names, port = Names(), free_port()
    # The one thing that is not as it ships: a port that is free here.
    config = (PROXY / "haproxy.cfg").read_text()
    assert "service:8000" in config
    (folder / "haproxy.cfg").write_text(config.replace("service:8000", f"service:{inner}"))
    variables = {
        "HEART_DNS": f"127.0.0.1:{names.port}",
        "HEART_BIND": f"127.0.0.1:{port}",
        "HEART_PEM": str(folder / "certificate.pem"),
    }
    with ExitStack() as with_middleware:
        with_middleware.callback(names.stop)
        haproxy = subprocess.Popen(["haproxy", "-f", str(folder / "haproxy.cfg")], env=os.environ | variables | limits)
        with_middleware.callback(haproxy.wait)
        with_middleware.callback(haproxy.kill)
        yield Proxy(port, ssl.create_default_context(cafile=str(folder / "certificate.pem")), names)


@contextmanager
def proxied(folder: Path, **limits: str) -> Iterator[tuple[Proxy, int]]:
    """HAProxy, with these variables, and two services on the port that is given back, each on an address of its own."""
    inner = free_port()
    services: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as with_middleware:
        for address in ADDRESSES:
            command = [sys.executable, "-m", "service", "--provider", "cpu", "--host", address, "--port", str(inner)]
            services[address] = service = subprocess.Popen(command, cwd=ROOT)
            with_middleware.callback(service.wait)
            with_middleware.callback(service.kill)
        proxy = with_middleware.enter_context(balancing(folder, inner, **limits))
        proxy.services = services
        # Both, before the proxy's own next look, so that it sees both.
        until(lambda: all(proxy.rows(address, inner) == 0 for address in ADDRESSES), "ready")
        until(lambda: proxy.ask("GET", "/health/ready")[0] == 200, "ready behind the proxy")
        yield proxy, inner


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, int]]:
    """A proxy before two services that nobody harms."""
    with proxied(tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


def test_both_services_answer_behind_one_certificate(both: tuple[Proxy, int]) -> None:
    """Requests are shared; a client that trusts the certificate needs to know nothing else."""
    proxy, inner = both
    until_asked(proxy, inner, "127.0.0.3")
    until_asked(proxy, inner, "127.0.0.2")
    before = [proxy.rows(address, inner) for address in proxy.services]
    assert proxy.predictions(20) == {200}
    after = [proxy.rows(address, inner) for address in proxy.services]
    assert min(now - then for now, then in zip(after, before, strict=True)) >= 5


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0, h2c"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_upgrade_is_one_request_with_one_answer(both: tuple[Proxy, int], upgrade: str, is_chunked: bool) -> None:
    """The body is its own, in the same packet or a later one, and what looks like a request in it is not one."""
    proxy, _ = both
    record = json.dumps(EXAMPLE).encode()
    body = record + b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n"
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    head = "\r\n".join(
        [
            "POST /predict HTTP/1.1",
            "Host: localhost",
            "Connection: Upgrade, HTTP2-Settings",
            f"Upgrade: {upgrade}",
            "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            "Content-Type: application/json",
            framing,
            "\r\n",
        ]
    ).encode()
    follower = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for packets in ([head + sent + follower], [head, sent, follower], [head + sent[:50], sent[50:] + follower]):
        with (
            socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as plain,
            proxy.trust.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            for packet in packets:
                connection.sendall(packet)
                time.sleep(0.05)
            received = b""
            while data := connection.recv(2**16):
                received += data
        assert received.count(b"HTTP/1.1 ") == 2
        assert received.startswith(b"HTTP/1.1 400 ")  # JSON with something behind it
        assert received.endswith(b'{"status":"live"}')


class Recorder(BaseHTTPRequestHandler):
    """A service that tells what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps([self.request_version, {name.lower(): value for name, value in self.headers.items()}])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None: ...


def test_headers_of_the_clients_connection_end_at_the_proxy(tmp_path: Path) -> None:
    """Neither an upgrade nor what announces it; the request's own headers and its version go on."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with balancing(tmp_path, server.server_port) as proxy:
            proxy.names.addresses = ["127.0.0.1"]
            until(lambda: proxy.ask("GET", "/")[0] == 200, "ready")
            for version in ("1.1", "1.0"):
                for upgrade in ("Upgrade, HTTP2-Settings", "keep-alive, upgrade", "close"):
                    lines = [
                        f"GET / HTTP/{version}",
                        *("Host: t", f"Connection: {upgrade}", "Upgrade: h2c", "HTTP2-Settings: AAMA", "X-API-Key: k"),
                    ]
                    with (
                        socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as plain,
                        proxy.trust.wrap_socket(plain, server_hostname="localhost") as connection,
                    ):
                        connection.sendall("\r\n".join([*lines, "\r\n"]).encode())
                        response = http.client.HTTPResponse(connection)
                        response.begin()
                        received = json.loads(response.read())
                        if upgrade == "close":
                            assert connection.recv(1) == b""  # and the proxy has understood it itself
                    assert received[0] == f"HTTP/{version}"
                    assert received[1].get("connection", "").lower() in ("", "keep-alive", "close")
                    assert {"upgrade", "http2-settings"}.isdisjoint(received[1])
                    assert received[1]["x-api-key"] == "k"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_metrics_stay_inside(both: tuple[Proxy, int]) -> None:
    """They would be those of one container, and are the operator's; the refusal has the service's shape."""
    for path in ("/metrics", "/%6detrics", "/metrics?x"):  # the service would read them all alike
        status, headers, body = both[0].ask("GET", path)
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(body)["detail"] == "Not found."  # by the proxy, not the service


def test_answers_come_through_as_they_are(both: tuple[Proxy, int]) -> None:
    """Errors too: the proxy adds that only TLS is spoken here."""
    status, headers, body = both[0].ask("POST", "/predict", {"age": "63"})
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert json.loads(body)["errors"]
    assert "max-age" in headers["strict-transport-security"]


def test_a_large_batch_comes_through(both: tuple[Proxy, int]) -> None:
    """Larger than any buffer on the way, in both directions."""
    status, _, body = both[0].ask("POST", "/predict/batch", [EXAMPLE] * 10_000)
    assert (status, len(json.loads(body)["predictions"])) == (200, 10_000)


def test_who_does_not_speak_tls_gets_nothing(both: tuple[Proxy, int]) -> None:
    """Not a redirect either, after which the record would have been sent in the clear already."""
    with socket.create_connection(("127.0.0.1", both[0].port)) as plain:
        plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"live" not in plain.recv(1000)


def test_services_may_come_and_go_and_die(tmp_path: Path) -> None:
    """kill -9 of one while records are sent cuts off the answer that it was writing, if any, and no other is lost.

    Without any service, the refusal says when to ask again.
    """
    with proxied(tmp_path) as (proxy, inner):
        until_asked(proxy, inner, "127.0.0.3")
        killer = threading.Timer(0.3, proxy.services["127.0.0.2"].kill)
        killer.start()
        statuses: set[int] = set()
        cut = 0
        while killer.is_alive() or proxy.services["127.0.0.2"].poll() is None:
            try:
                statuses |= proxy.predictions(1)
            except (http.client.HTTPException, ConnectionError):  # half of it was sent: nobody can send it again
                cut += 1
        assert statuses | proxy.predictions(100) == {200}
        assert cut <= 1

        proxy.names.addresses = ["127.0.0.2"]  # scaled down to the one that died
        until(lambda: proxy.predictions(1) == {503}, "unready")
        status, headers, body = proxy.ask("POST", "/predict", EXAMPLE)
        assert (status, headers["retry-after"], json.loads(body)["status"]) == (503, "1", 503)

        proxy.names.addresses = ["127.0.0.2", "127.0.0.3"]  # and up again
        until(lambda: proxy.predictions(1) == {200}, "found again")


def test_what_is_too_much_is_sent_away_by_the_proxy_and_slow_senders_hold_no_place(tmp_path: Path) -> None:
    """Here two are worked on and two wait: the next is told when to ask again, and none of the four is lost."""
    with proxied(tmp_path, HEART_AT_ONCE="1", HEART_QUEUE="2") as (proxy, inner), ExitStack() as with_middleware:
        for address in proxy.names.addresses:
            until_asked(proxy, inner, address)
        for _ in range(4):
            slow = with_middleware.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
            slow = with_middleware.enter_context(proxy.trust.wrap_socket(slow, server_hostname="localhost"))
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\n{")
        assert proxy.predictions(10) == {200}

        for service in proxy.services.values():
            service.send_signal(signal.SIGSTOP)
        pool = with_middleware.enter_context(ThreadPoolExecutor())
        waiting = []
        for _ in range(4):
            waiting.append(pool.submit(proxy.predictions, 1))
            time.sleep(0.1)
        status, headers, body = proxy.ask("POST", "/predict", EXAMPLE)
        for service in proxy.services.values():
            service.send_signal(signal.SIGCONT)
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body)["detail"] == "Too many requests are waiting."
        assert [answered.result() for answered in waiting] == [{200}] * 4


def test_a_certificate_is_made_once_and_never_over_another(tmp_path: Path) -> None:
    """For localhost and the name that was asked for, with a key that only its owner reads; an expired one is told."""
    script = ["sh", str(PROXY / "certificate.sh"), str(tmp_path)]
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    subprocess.run(script, env=os.environ | {"HEART_NAME": "heart.example"}, capture_output=True, check=True)
    made = (tmp_path / "certificate.pem").read_bytes()
    shown = run("openssl", "x509", "-in", str(tmp_path / "certificate.pem"), "-noout", "-ext", "subjectAltName")
    assert "DNS:localhost, IP Address:127.0.0.1, DNS:heart.example" in shown
    assert (tmp_path / "certificate.pem.key").stat().st_mode & 0o077 == 0
    run(*script)
    assert (tmp_path / "certificate.pem").read_bytes() == made

    paths = [str(tmp_path / name) for name in ("certificate.pem", "certificate.pem.key")]
    (tmp_path / "certificate.pem").write_text(
        run("openssl", "x509", "-in", paths[0], "-signkey", paths[1], "-days", "-1")
    )
    assert "has expired" in refused(script)
    (tmp_path / "certificate.pem").write_text("no certificate")
    assert "not a certificate" in refused(script)
    (tmp_path / "certificate.pem.key").unlink()
    assert "cannot read certificate.pem.key" in refused(script)


def refused(script: list[str]) -> str:
    """What the script says when it fails, as it must."""
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr
