"""Run the proxy of docker-compose.yml in front of one server, on the client's core."""

import http.client
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.process import CLIENT_CORE, Failed, Running, core
from benchmarks.serving.servers import ROOT
from tests.e2e.serving import free_port

PROXY = ROOT / "deploy/proxy"
SERVICES = "server-template heart 1-32 service:8000"


@contextmanager
def proxied(running: Running, folder: Path) -> Iterator[str]:
    """The address of a running proxy. Raises Failed if it does not start."""
    subprocess.run([PROXY / "certificate.sh", folder], check=True, stdout=subprocess.DEVNULL)
    config, port = (PROXY / "haproxy.cfg").read_text(), free_port()
    assert SERVICES in config
    (folder / "haproxy.cfg").write_text(config.replace(SERVICES, f"server heart 127.0.0.1:{running.port}"))
    variables = {"HEART_BIND": f"127.0.0.1:{port}", "HEART_PEM": str(folder / "certificate.pem")}
    with core(CLIENT_CORE):
        command = ["haproxy", "-f", str(folder / "haproxy.cfg")]
        haproxy = subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.DEVNULL)
    try:
        _wait(port, folder / "certificate.pem")
        yield f"https://127.0.0.1:{port}"
    finally:
        haproxy.kill()
        haproxy.wait()


def _wait(port: int, certificate: Path) -> None:
    trust = ssl.create_default_context(cafile=certificate)
    for _ in range(100):
        connection = http.client.HTTPSConnection("localhost", port, context=trust, timeout=2)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise Failed("haproxy: not ready")
