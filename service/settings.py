"""Every setting of the service: name, default, help. The only reader of the environment."""

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource

from patient.command_line import SettingsError, parse, split_list

T = TypeVar("T")

Provider = Literal["auto", "cuda", "cpu"]
GpuMode = Literal["plain", "iobinding"]
Origin = Annotated[str, Field(pattern=r"^https?://[^\s/*,]+$")]
PREFIX = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._~-]*){1,8}")  # nothing that means something in HTML or in a URL
OWN_SEGMENTS = {
    *("", "clinicians", "docs", "explain", "health", "metrics", "model", "openapi.json", "predict"),
    *("static-offline-docs", "v2", "web"),
}  # with which the service's own paths begin
AnyCase = Annotated[T, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)]


def _without_brackets(host: object) -> object:
    """Take [::1], as in a URL, for ::1."""
    return re.sub(r"^\[(.*)\]$", r"\1", host) if isinstance(host, str) else host


AllowedHost = Annotated[
    AnyCase[str],
    BeforeValidator(_without_brackets),
    Field(pattern=r"^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*)$"),
]


def is_prefix(path: str) -> bool:
    """Whether a path can be a prefix: simple segments, the first of which begins no path of the service."""
    return PREFIX.fullmatch(path) is not None and path.split("/")[1] not in OWN_SEGMENTS


def _check_prefix(path: str) -> str:
    """Take /heart/ for /heart."""
    path = path.rstrip("/")
    if path and not is_prefix(path):
        raise PydanticCustomError("prefix", "must be a path such as /heart, and not one of the service's own")
    return path


class _Environment(EnvSettingsSource):
    """The environment, without the HEART_PORT=tcp://10.0.0.1:8000 that Kubernetes sets for a Service named heart."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        if re.match("(tcp|udp|sctp)://", str(values.get("port"))):
            del values["port"]
        return values


class Settings(BaseSettings, env_prefix="HEART_", env_ignore_empty=True):
    """The settings of the service: --max-body on the command line, or HEART_MAX_BODY in the environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)

    models: Path = Field(Path("models/heart_disease"), description="Folder of the model's versions.")
    version: int | None = Field(
        None, ge=1, description="Version to serve. If not set: the one in the file `serve`, or else the highest."
    )
    watch: float = Field(2, ge=0, description="Seconds between two checks for a new version; 0 checks on SIGHUP only.")
    host: Annotated[str, BeforeValidator(_without_brackets)] = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free port.")
    keys: Path | None = Field(None, description="File of API keys. If not set, requests need no key.")
    open_to_network: bool = Field(False, description="Listen beyond this machine without API keys.")
    cors_origins: Annotated[list[Origin], NoDecode, BeforeValidator(split_list)] = Field(
        [], description="Origins of web pages that may call the service, such as https://a.example,https://b.example."
    )
    allowed_hosts: Annotated[list[AllowedHost], NoDecode, BeforeValidator(split_list)] = Field(
        [],
        description="Host names that requests may be sent to, besides localhost, such as heart.example,*.b.example. "
        "If not set: any, except that a service without keys on a loopback address takes no other.",
    )
    root_path: Annotated[str, AfterValidator(_check_prefix)] = Field(
        "", description="Path prefix, such as /heart, under which a proxy publishes the service."
    )
    trust_forwarded_prefix: bool = Field(
        False, description="Take the prefix from X-Forwarded-Prefix, which a proxy must set or remove."
    )
    provider: AnyCase[Provider] = Field(
        "auto", description="cuda: require a GPU; cpu: use none; auto: use a GPU if there is one, and log the choice."
    )
    gpu_mode: AnyCase[GpuMode] = Field(
        "iobinding", description="Copy rows to the GPU: plain, or by iobinding (fixed buffers)."
    )
    gpu_memory: int = Field(256, ge=64, description="MiB of GPU memory for the model; CUDA takes some hundred more.")
    crossover: int | None = Field(
        None, ge=0, description="With auto, least rows that go to the GPU; 0: all. If not set, it is measured."
    )
    max_body: int = Field(4 * 2**20, ge=1, description="Largest body in bytes, except tables; a larger one gets 413.")
    max_rows: int = Field(10_000, ge=1, description="Most records in one JSON batch; more get 413.")
    max_table: int = Field(2**36, ge=1, description="Largest table in bytes as sent; a larger one gets 413.")
    max_table_rows: int = Field(10**9, ge=1, description="Most rows of a table; more get 413.")
    max_columns: int = Field(2**14, ge=13, description="Most columns of a table; more get 413.")
    max_unpacked: int = Field(2**36, ge=1, description="Most bytes of a table once decompressed; more get 413.")
    max_ratio: int = Field(200, ge=1, description="Highest compression ratio of a table; a higher one gets 413.")
    max_part: int = Field(2**28, ge=1, description="Most bytes in an Arrow batch or in binary tensors; more get 413.")
    max_spool: int = Field(2**32, ge=1, description="Most bytes in the temporary file of a table; more get 413.")
    max_streams: int = Field(8, ge=1, description="Most tables that are scored at once; more get 503.")
    max_stall: float = Field(60, gt=0, description="Most seconds without a byte to or from a table's client; then 408.")
    max_seconds: float = Field(3600, gt=0, description="Most seconds that a table may take; then 408.")
    min_rate: float = Field(
        1000,
        ge=0,
        description="Bytes per second; a slower client of a table makes way for others when all places are taken.",
    )
    max_waiting: int = Field(4096, ge=1, description="Most single records in the queue for the model; more get 503.")
    max_batches: int = Field(64, ge=1, description="Most JSON batches in the queue; more get 503.")
    max_explanations: int = Field(16, ge=1, description="Most explanations in the queue; more get 503.")
    max_requests: int = Field(2048, ge=1, description="Most requests at once, except plain predictions; more get 503.")
    max_connections: int = Field(
        16_384, ge=1, description="Most open connections per worker; idle ones make way, then more get 503."
    )
    max_head: int = Field(2**15, ge=1024, description="Largest request head in bytes; a larger one gets 431.")
    max_arrival: float = Field(
        20, gt=0, description="Most seconds until a head, or a JSON body, has arrived; then 408."
    )
    drain: float = Field(3, ge=0, description="Seconds after SIGTERM in which it takes requests, but is not ready.")
    grace: int = Field(20, ge=1, description="Seconds that running requests then have to finish.")
    workers: int = Field(1, ge=1, le=256, description="Number of worker processes; one that dies is replaced.")
    access_log: bool = Field(True, description="Log a line for each request, at level info.")
    log_format: AnyCase[Literal["auto", "json", "text"]] = Field(
        "auto", description="Format of the log; auto: text on a terminal, else JSON lines."
    )
    log_level: AnyCase[Literal["debug", "info", "warning", "error"]] = Field("info", description="Lowest level to log.")


def read_settings(options: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings: options override environment variables, which override defaults. Raises SettingsError."""
    return parse(Settings, options or {})


def read_client_key() -> str | None:
    """Read HEART_KEY, the API key that a client sends. No option takes it: other users can read a command line.

    Raises SettingsError, which does not repeat the key.
    """
    key = os.environ.get("HEART_KEY") or None
    if key and not re.fullmatch(r"[!-~]+", key):
        raise SettingsError("HEART_KEY contains characters that are not allowed in an API key")
    return key


def is_loopback(host: str) -> bool:
    """Whether a service that listens on this host, a name or an address, is reached from this machine only."""
    try:  # an empty host listens on every address
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except OSError:
        found = []
    addresses = [ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found]
    return bool(addresses) and all(address.is_loopback for address in addresses)


def refuse_exposure(settings: Settings) -> None:
    """Raise SettingsError if other machines could send requests without a key and no setting allows that."""
    if settings.keys or settings.open_to_network:
        return
    if not is_loopback(settings.host):
        raise SettingsError(
            f"--host {settings.host} is open to the network and no API keys are set: give a file of keys (--keys or "
            "HEART_KEYS), or allow requests without keys (--open-to-network or HEART_OPEN_TO_NETWORK=true)"
        )
