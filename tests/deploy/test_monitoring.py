"""The configuration of Prometheus and Grafana fits the metrics that the service exports."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from patient.record import EXAMPLE, FIELDS
from tests.conftest import CLEVELAND, ROOT
from tests.deploy.tools import run
from tests.e2e.serving import free_port, get, request, serving
from trainer.dataset import read

PROMETHEUS = ROOT / "deploy/prometheus"
CONFIG = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
GROUPS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS, RECORDS = ([rule for rule in RULES if kind in rule] for kind in ("alert", "record"))
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/heart.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}


@pytest.fixture(scope="module")
def service() -> Iterator[int]:
    """The port of a service that has scored one record."""
    with serving() as (port, _):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request("/predict", EXAMPLE))
            assert b" 200 " in connection.recv(100)
        yield port


def test_promtool_accepts_configuration_and_rules() -> None:
    """Prometheus itself would start with them."""
    run("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    # The key file exists only in the container.
    run("promtool", "check", "config", "--syntax-only", str(PROMETHEUS / "prometheus-key.yml"))


def test_alerts_fire_when_they_must_and_only_then() -> None:
    """Each on its own series, and none while the service is healthy."""
    tested = (Path(__file__).parent / "alerts_test.yml").read_text()
    for alert in ALERTS:
        assert f"alertname: {alert['alert']}\n" in tested
    run("promtool", "test", "rules", "tests/deploy/alerts_test.yml")


def test_every_metric_in_rules_and_panels_exists(service: int) -> None:
    """An alert on a metric that is not exported would never fire."""
    exported = set(re.findall(r"^(heart_\w+)", get(service, "/metrics"), re.MULTILINE))
    recorded = {record["record"] for record in RECORDS}
    for expression in [rule["expr"] for rule in RULES] + list(QUERIES.values()):
        assert set(re.findall(r"\bheart_\w+", expression)) <= exported, expression
        assert set(re.findall(r"\bheart:[\w:]+", expression)) <= recorded, expression


def test_the_dashboard_finds_its_data_source_and_its_folder() -> None:
    """Grafana reads the folder that Compose mounts, and queries the Prometheus that Compose starts."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/datasources/prometheus.yml").read_text())["datasources"]
    (folder,) = yaml.safe_load((ROOT / "deploy/grafana/dashboards/heart.yml").read_text())["providers"]
    assert source["isDefault"]
    assert urllib.parse.urlsplit(source["url"]).hostname in compose
    assert f"./deploy/grafana/dashboards:{folder['options']['path']}:ro" in compose["grafana"]["volumes"]
    home = Path(compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "deploy/grafana/dashboards" / home.name).exists()
    assert CONFIG["scrape_configs"][0]["dns_sd_configs"][0]["names"][0] in compose


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    """Grafana does not report collisions."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


@pytest.fixture(scope="module")
def prometheus(service: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real Prometheus with this configuration that scrapes a real service every second."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed")
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    shutil.copy(PROMETHEUS / "alerts.yml", folder)
    (job,) = CONFIG["scrape_configs"]
    here = {"job_name": job["job_name"], "static_configs": [{"targets": [f"127.0.0.1:{service}"]}]}
    timing = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(CONFIG | {"global": timing, "scrape_configs": [here]}))
    flags = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=error"]
    server = subprocess.Popen(["prometheus", *flags, f"--web.listen-address=127.0.0.1:{port}"])
    try:
        yield port
    finally:
        server.terminate()
        assert server.wait(30) == 0


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """The current series of an expression, once there are any; empty after half a minute."""
    found: list[dict[str, Any]] = []
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    for _ in range(150):
        try:
            found = json.loads(get(port, path))["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:  # still starting
                raise AssertionError(error.read().decode()) from None
        except (urllib.error.URLError, ConnectionError):
            pass
        if found:
            break
        time.sleep(0.2)
    return found


@pytest.mark.parametrize("title", [title for title, expr in QUERIES.items() if "ALERTS" not in expr])
def test_a_panel_shows_something(prometheus: int, title: str) -> None:
    """Each query finds its series, even for a service with a single request."""
    assert query(prometheus, QUERIES[title].replace("$__rate_interval", "5s").replace("$feature", "age"))


def test_prometheus_evaluates_every_alert_without_error(prometheus: int) -> None:
    """With a real service's metrics; none fires for a healthy service."""
    assert query(prometheus, 'up{job="heart"} == 1')
    for _ in range(150):
        groups = json.loads(get(prometheus, "/api/v1/rules"))["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        if all(rule["health"] != "unknown" for rule in rules):
            break
        time.sleep(0.2)
    assert {rule["name"]: (rule["health"], rule.get("state")) for rule in rules} == {
        **{alert["alert"]: ("ok", "inactive") for alert in ALERTS},
        **{record["record"]: ("ok", None) for record in RECORDS},
    }


def test_the_readme_shows_the_drift_query_of_the_rule() -> None:
    """The README's query is the one that is tested."""
    (drift,) = (record["expr"] for record in RECORDS if record["record"] == "heart:feature_psi:1d")
    assert " ".join(drift.split()) in " ".join((ROOT / "README.md").read_text().split())


def test_drift_is_seen_by_a_real_prometheus(service: int, prometheus: int) -> None:
    """Patients of similar age, by the bins and shares of the serving model."""

    def drift(feature: str) -> float:
        (found,) = query(prometheus, f'heart:feature_psi:1d{{feature="{feature}"}}')
        return float(found["value"][1])

    ages = np.random.default_rng(0).integers(18, 43, 40)
    rows = [dict(zip(FIELDS, row, strict=True)) for row in read(CLEVELAND).rows.tolist()]
    content = [{name: None if value != value else value for name, value in row.items()} for row in rows]
    assert query(prometheus, "heart_feature_total")  # Prometheus must have seen earlier counts, or there is no increase
    with socket.create_connection(("127.0.0.1", service)) as connection:
        connection.sendall(request("/predict/batch", content * 5))
        assert b" 200 " in connection.recv(100)
    for _ in range(150):
        if drift("age") < 0.05 and drift("thal") < 0.05:
            break
        time.sleep(0.2)
    assert all(drift(feature) < 0.05 for feature in (*FIELDS, "probability"))
    with socket.create_connection(("127.0.0.1", service)) as connection:
        connection.sendall(request("/predict/batch", [EXAMPLE | {"age": int(age)} for age in ages] * 100))
        assert b" 200 " in connection.recv(100)
    for _ in range(150):
        if drift("age") > 0.25:
            break
        time.sleep(0.2)
    assert drift("age") > 0.25
