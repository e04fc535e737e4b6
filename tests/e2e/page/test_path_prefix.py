"""The page and the documentation below a path prefix, behind a proxy that removes it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Response, expect

from patient.record import EXAMPLE
from tests.e2e.page.browser import ask, example, opened
from tests.e2e.serving import free_port, get, serving, wait_until_ready

CONFIG = """
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s

frontend prefixed
    bind 127.0.0.1:{port}
    http-request redirect location /heart/ if {{ path /heart }}
    http-request return status 404 if !{{ path_beg /heart/ }} !{{ path /health/ready }}
    http-request set-header X-Forwarded-Prefix /heart
    http-request replace-path /heart(/.*) \\1
    default_backend service

backend service
    server heart 127.0.0.1:{inner}
"""


@contextmanager
def prefixed(folder: Path, inner: int) -> Iterator[int]:
    """Yield the port of a proxy that passes /heart/... on as /..."""
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed")
    port = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(CONFIG.format(port=port, inner=inner))
    proxy = subprocess.Popen(["haproxy", "-f", str(file)])
    try:
        wait_until_ready(port, proxy)
        yield port
    finally:
        proxy.kill()
        proxy.wait()


@pytest.mark.parametrize("flags", [("--root-path", "/heart"), ("--trust-forwarded-prefix",)], ids=["setting", "header"])
def test_the_page_and_the_documentation_load_and_predict(browser: Browser, tmp_path: Path, flags: tuple[str]) -> None:
    """Every request of theirs goes below the prefix and succeeds, also one that the documentation is told to send."""
    loaded: list[Response] = []
    with (
        serving("--log-level", "error", *flags) as (inner, _),
        prefixed(tmp_path, inner) as port,
        opened(browser, port, "/heart") as page,
    ):
        page.on("response", lambda one: loaded.append(one))
        example(page, "low")
        page.get_by_role("link", name="API documentation").click()
        page.locator("[id*=predict_post]").first.click()
        page.get_by_role("button", name="Try it out").first.click()
        page.get_by_role("button", name="Execute").first.click()
        expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
        assert ask(port, "/heart/predict", EXAMPLE) == ask(inner, "/predict", EXAMPLE)
        assert '"status":"live"' in get(port, "/heart/health/live")
    assert [f"{one.status} {one.url}" for one in loaded if one.status >= 400] == []
    assert all(one.url.startswith((f"http://127.0.0.1:{port}/heart/", "data:")) for one in loaded)
