"""What docker-compose.yml promises: a container can do little, and nobody beyond this machine reaches it."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.conftest import ROOT
from tests.deploy.tools import run

# Compose's own: what another file said is taken away.
yaml.SafeLoader.add_constructor("!reset", lambda *_: "reset")


def compose(name: str) -> dict[str, Any]:
    """The services of a compose file."""
    services: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())["services"]
    return services


SERVICES = compose("docker-compose.yml")
CPU = compose("docker-compose.cpu.yml")
KEYS = compose("docker-compose.keys.yml")
each = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@each
def test_a_container_has_no_rights_that_it_does_not_need(service: dict[str, Any]) -> None:
    """Nor can it gain any."""
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "devices", "pid", "ipc", "userns_mode", "user"} & set(service)
    assert service.get("network_mode", "none") == "none"


@each
def test_a_container_writes_only_in_its_volume_and_tmp(service: dict[str, Any]) -> None:
    """The root file system is read-only, and of this machine's folders only our own are seen, read-only too."""
    assert service["read_only"] is True
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    for volume in service["volumes"]:
        assert re.match(r"(\./deploy/\S+:ro$|\w+:/|\$\{HEART_CERTIFICATE:-certificate\}:/)", volume), volume


@each
def test_a_container_is_bounded(service: dict[str, Any]) -> None:
    """In memory without swap, in processes, in logs, and in the time that it may take to stop."""
    assert service["memswap_limit"] == service["mem_limit"]
    assert service["pids_limit"] <= 512
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["stop_grace_period"] == "30s"
    assert service["init"] is True


@each
def test_ports_are_published_on_this_machine_only(service: dict[str, Any]) -> None:
    """Whoever opens them to a network does so in so many words."""
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{HEART_\w*PORT:-\d+\}:\d+", port), port


@each
def test_images_are_built_here_or_pinned(service: dict[str, Any]) -> None:
    """What is tried today is what comes tomorrow."""
    assert "build" in service or re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])


@each
def test_what_serves_comes_back_and_what_ends_does_not(service: dict[str, Any]) -> None:
    """After a crash and after a restart of the engine; a failed training is not tried for ever."""
    assert service["restart"] == ("unless-stopped" if "ports" in service else "no")


def test_the_service_waits_for_the_trainer_and_cannot_write_its_models() -> None:
    """`up` alone ends with a service that has a model."""
    trainer, service = SERVICES["trainer"], SERVICES["service"]
    assert service["depends_on"] == {"trainer": {"condition": "service_completed_successfully"}}
    assert trainer["command"][:2] == ["fit", "--if-none"]
    assert (trainer["volumes"], service["volumes"]) == (["models:/models"], ["models:/models:ro", "spool:/spool"])
    assert service["environment"]["TMPDIR"] == "/spool"  # a table is set aside on disk, not in the memory of /tmp


def test_without_a_profile_only_trainer_and_service_are_started() -> None:
    """The rest is asked for."""
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["trainer", "service"]


@pytest.mark.parametrize("name", ["trainer", "service"])
def test_the_cpu_file_takes_away_whatever_needs_a_gpu(name: str) -> None:
    """The reservation, the locks with CUDA, and the provider."""
    devices = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert CPU[name]["deploy"] == "reset"
    assert CPU[name]["build"]["args"] == {f"{name.upper()}_LOCK": name}
    assert set(CPU) == {"trainer", "service"}


@pytest.mark.parametrize(("file", "provider"), [(SERVICES, "cuda"), (CPU, "cpu")])
def test_the_service_understands_its_variables(file: dict[str, Any], provider: str) -> None:
    """Each is a setting, and the provider is named: no fallback goes unseen."""
    given = file["service"]["environment"]
    environment = {name[6:].lower(): value for name, value in given.items() if name.startswith("HEART_")}
    assert set(environment) <= set(Settings.model_fields)
    assert environment["provider"] == provider


def test_the_service_is_open_in_so_many_words_or_asks_for_keys() -> None:
    """It would not start otherwise; with keys it is not open, and the file is the secret that is mounted."""
    plain, keyed = (file["service"]["environment"] for file in (SERVICES, KEYS))
    assert (plain["HEART_HOST"], plain["HEART_OPEN_TO_NETWORK"]) == ("0.0.0.0", "true")
    assert (keyed["HEART_KEYS"], keyed["HEART_OPEN_TO_NETWORK"]) == ("/run/secrets/keys", "false")
    assert KEYS["service"]["secrets"] == ["keys"]


def test_prometheus_with_a_key_is_prometheus() -> None:
    """The same command and the same configuration, but for the key."""
    plain, keyed = (file["prometheus"]["command"] for file in (SERVICES, KEYS))
    assert [word.replace("prometheus-key.yml", "prometheus.yml") for word in keyed] == plain
    folder = ROOT / "deploy/prometheus"
    plain, keyed = (yaml.safe_load((folder / name).read_text()) for name in ("prometheus.yml", "prometheus-key.yml"))
    assert keyed["scrape_configs"][0].pop("authorization") == {"credentials_file": "/run/secrets/prometheus"}
    assert keyed == plain
    assert KEYS["prometheus"]["secrets"] == ["prometheus"]


@pytest.mark.parametrize("profile", [None, "proxy", "monitoring"])
@pytest.mark.parametrize("more", [[], ["docker-compose.cpu.yml"], ["docker-compose.keys.yml"]])
def test_compose_takes_the_files(more: list[str], profile: str | None) -> None:
    """As it reads them itself, in every combination."""
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
