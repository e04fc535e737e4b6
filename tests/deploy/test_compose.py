"""Containers of docker-compose.yml: few rights, bounded resources, ports on this machine only."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from service.settings import Settings, refuse_exposure
from tests.conftest import ROOT
from tests.deploy.tools import run

# Compose's own tag, which removes what an earlier file set.
yaml.SafeLoader.add_constructor("!reset", lambda *_: "reset")


def compose(name: str) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())["services"]
    return services


SERVICES = compose("docker-compose.yml")
CPU = compose("docker-compose.cpu.yml")
KEYS = compose("docker-compose.keys.yml")
each = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@each
def test_a_container_has_no_rights_and_cannot_gain_any(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "devices", "pid", "ipc", "userns_mode", "user"} & set(service)
    assert service.get("network_mode", "none") == "none"


@each
def test_a_container_writes_only_in_its_volume_and_tmp(service: dict[str, Any]) -> None:
    """The root file system is read-only; of the host's folders only those of deploy/ are mounted, read-only."""
    assert service["read_only"] is True
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    for volume in service["volumes"]:
        assert re.match(r"(\./deploy/\S+:ro$|\w+:/|\$\{HEART_CERTIFICATE:-certificate\}:/)", volume), volume


@each
def test_a_container_is_bounded(service: dict[str, Any]) -> None:
    """In memory without swap, in processes, in logs, and in its time to stop."""
    assert service["memswap_limit"] == service["mem_limit"]
    assert service["pids_limit"] <= 512
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["stop_grace_period"] == "30s"
    assert service["init"] is True


@each
def test_ports_are_published_on_this_machine_only(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{HEART_\w*PORT:-\d+\}:\d+", port), port


@each
def test_images_are_built_here_or_pinned(service: dict[str, Any]) -> None:
    assert "build" in service or re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])


@pytest.mark.parametrize(("more", "provider"), [({}, "cuda"), (CPU, "cpu"), (KEYS, "cuda")], ids=["", "cpu", "keys"])
def test_the_service_starts_with_its_variables(more: dict[str, Any], provider: str) -> None:
    """Each is a setting, none exposes a service without keys by accident, and the provider is explicit."""
    variables = SERVICES["service"]["environment"] | more.get("service", {}).get("environment", {})
    given: dict[str, Any] = {
        name[6:].lower(): re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value))  # the default of a variable
        for name, value in variables.items()
        if name.startswith("HEART_")
    }
    assert set(given) <= set(Settings.model_fields)
    settings = Settings(**given)
    refuse_exposure(settings)
    assert settings.provider == provider
    assert bool(settings.keys) != settings.open_to_network


def test_prometheus_with_a_key_differs_in_the_key_alone() -> None:
    plain, keyed = (file["prometheus"]["command"] for file in (SERVICES, KEYS))
    assert [word.replace("prometheus-key.yml", "prometheus.yml") for word in keyed] == plain
    folder = ROOT / "deploy/prometheus"
    plain, keyed = (yaml.safe_load((folder / name).read_text()) for name in ("prometheus.yml", "prometheus-key.yml"))
    assert keyed["scrape_configs"][0].pop("authorization") == {"credentials_file": "/run/secrets/prometheus"}
    assert keyed == plain
    assert KEYS["prometheus"]["secrets"] == ["prometheus"]


@pytest.mark.parametrize("profile", [None, "proxy", "monitoring"])
@pytest.mark.parametrize("more", [[], ["docker-compose.cpu.yml"], ["docker-compose.keys.yml"]])
def test_docker_compose_accepts_every_combination_of_files(more: list[str], profile: str | None) -> None:
    try:
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("docker compose is not installed")
    files = ["docker-compose.yml", *more]
    flags = [word for file in files for word in ("--file", file)] + (["--profile", profile] if profile else [])
    services = json.loads(run("docker", "compose", *flags, "config", "--format", "json"))["services"]
    assert {"trainer", "service"} <= set(services)
    assert ("deploy" in services["service"]) == ("docker-compose.cpu.yml" not in more)
    for service in services.values():
        assert service["read_only"]
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", []))
