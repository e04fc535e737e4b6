"""Every knob of the service: name, default, one line of help. The only reader of the environment."""

import ipaddress
import re
import socket
from argparse import ArgumentParser
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, CliApp, CliImplicitFlag, CliSettingsSource

Provider = Literal["auto", "cuda", "cpu"]
GpuMode = Literal["plain", "iobinding"]


class SettingsError(Exception):
    """A setting that cannot be. The message is one line and names it."""


Origin = Annotated[str, Field(pattern=r"^https?://[^\s/*,]+$")]


class Settings(
    BaseSettings, env_prefix="HEART_", cli_prog_name="python -m service", cli_kebab_case=True, cli_implicit_flags=True
):
    """Serve heart disease probabilities over HTTP. The environment sets flags too: --max-body is HEART_MAX_BODY.

    `python -m service score --help`: probabilities for files instead; `python -m service key NAME`: a new key.
    """

    models: Path = Field(Path("models/heart_disease"), description="folder of the model's versions; the highest serves")
    version: int | None = Field(
        None, ge=1, description="the version that serves; None: the one that the file `serve` names, or the highest"
    )
    watch: float = Field(2, ge=0, description="seconds between two looks for a new version; 0: only at SIGHUP")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    keys: Path | None = Field(None, description="file of the keys that requests need; None: none is needed")
    open_to_network: bool = Field(False, description="listen beyond this machine although no key is needed")
    cors_origins: list[Origin] = Field([], description="web pages' origins that may call from a browser; none")
    provider: Provider = Field("auto", description="cuda: GPU or no start; cpu; auto: GPU if there is one, and says so")
    gpu_mode: GpuMode = Field("iobinding", description="how rows reach the GPU: plain or iobinding")
    gpu_memory: int = Field(256, ge=64, description="MiB of the GPU that runs may take, beside CUDA's own some hundred")
    crossover: int | None = Field(
        None, ge=0, description="rows from which auto takes the GPU; 0: always; None: measured"
    )
    max_body: int = Field(4 * 2**20, ge=1, description="bytes of a request body; above it 413")
    max_rows: int = Field(10_000, ge=1, description="records in one JSON batch; above it 413")
    max_table: int = Field(2**36, ge=1, description="bytes of a table, as sent; above it 413")
    max_table_rows: int = Field(10**9, ge=1, description="rows of a table; above it 413")
    max_unpacked: int = Field(2**36, ge=1, description="bytes of a compressed table, once decompressed; above it 413")
    max_ratio: int = Field(200, ge=1, description="bytes that a compressed byte may stand for; above it 413")
    max_part: int = Field(2**28, ge=1, description="bytes of one Arrow batch, or of binary tensors; above it 413")
    max_spool: int = Field(2**32, ge=1, description="bytes of a table or answer in a temporary file; above it 413")
    max_streams: int = Field(8, ge=1, description="tables that are scored at once; above it 503")
    max_stall: float = Field(60, gt=0, description="seconds that a table waits for its client; above it 408")
    max_seconds: float = Field(3600, gt=0, description="seconds that a table may take; above it 408")
    max_waiting: int = Field(4096, ge=1, description="single records that may wait for a run; above it 503")
    max_batches: int = Field(64, ge=1, description="JSON batches that may wait for their turn; above it 503")
    max_explanations: int = Field(16, ge=1, description="explanations that may wait for their turn; above it 503")
    max_requests: int = Field(2048, ge=1, description="requests worked on at once, beside plain JSON; above it 503")
    max_connections: int = Field(16_384, ge=1, description="connections at once; above it 503")
    max_head: int = Field(2**15, ge=1024, description="bytes of a request's head; above it 431")
    max_arrival: float = Field(20, gt=0, description="seconds for a head to come, and then for JSON; above it 408")
    drain: float = Field(3, ge=0, description="seconds between SIGTERM and the end in which it serves on, not ready")
    grace: int = Field(20, ge=1, description="seconds that what is under way then may take; the rest is cut off")
    workers: int = Field(1, ge=1, le=256, description="processes that serve; a killed one is replaced")
    access_log: CliImplicitFlag[bool] = Field(True, description="a line a request, from log level info on")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON lines")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")


class Client(BaseSettings, env_prefix="HEART_"):
    """What `score --url` takes from the environment alone: others can read a process's command line."""

    key: SecretStr | None = None

    @classmethod
    def from_environment(cls) -> "Client":
        """Raises SettingsError, which does not repeat the key."""
        found = cls()
        if found.key and not re.fullmatch(r"[!-~]+", found.key.get_secret_value()):
            raise SettingsError("HEART_KEY: not a key, which has no spaces")
        return found


def refuse_exposure(settings: Settings) -> None:
    """Raise SettingsError where anybody on a network could ask, and nobody has said that they may."""
    if settings.keys or settings.open_to_network or _is_loopback(settings.host):
        return
    raise SettingsError(
        f"--host {settings.host} is open to a network, and requests need no key: name a file of keys (--keys or "
        "HEART_KEYS), or say --open-to-network (HEART_OPEN_TO_NETWORK=true)"
    )


def _is_loopback(host: str) -> bool:
    """Whether every address that a name stands for is this machine's own. No name is every address."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback for *_, where in found)


def from_command_line(arguments: list[str] | None = None, program: str | None = None) -> Settings:
    """Flags before environment before defaults. Raises SettingsError; --help and unknown flags exit as usual."""
    source = CliSettingsSource[ArgumentParser](Settings, cli_prog_name=program)
    try:
        return CliApp.run(Settings, cli_args=arguments, cli_settings_source=source)
    except ValidationError as error:
        faults = (f"{_spelling(str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_url=False))
        raise SettingsError("; ".join(faults)) from None


def parser(program: str) -> ArgumentParser:
    """What reads the command line."""
    return CliSettingsSource[ArgumentParser](Settings, cli_prog_name=program).root_parser


def _spelling(name: str) -> str:
    """Both ways to write a setting, because the error does not know which one was used."""
    return f"--{name.replace('_', '-')} or HEART_{name.upper()}"
