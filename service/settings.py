"""Every knob of the service: name, default, one line of help. The only reader of the environment."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliApp

from service.provider import Gpu, Mode, Provider


class SettingsError(Exception):
    """A setting that cannot be. The message is one line and names it."""


class Settings(BaseSettings, env_prefix="HEART_", cli_prog_name="python -m service", cli_kebab_case=True):
    """Serve heart disease probabilities over HTTP. The environment sets flags too: --max-body is HEART_MAX_BODY.

    `python -m service score --help`: probabilities for files instead.
    """

    models: Path = Field(Path("models/heart_disease"), description="folder of the model's versions; the highest serves")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    provider: Provider = Field("auto", description="cuda: GPU or no start; cpu; auto: GPU if there is one, and says so")
    gpu_mode: Mode = Field("iobinding", description="how rows reach the GPU: plain, iobinding or graphs (CUDA graphs)")
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
    max_part: int = Field(2**28, ge=1, description="bytes of one Arrow batch; above it 413")
    max_spool: int = Field(2**32, ge=1, description="bytes of a table or answer in a temporary file; above it 413")
    max_streams: int = Field(8, ge=1, description="tables that are scored at once; above it 503")
    max_stall: float = Field(60, gt=0, description="seconds that a table waits for its client; above it 408")
    max_seconds: float = Field(3600, gt=0, description="seconds that a table may take; above it 408")
    max_waiting: int = Field(1024, ge=1, description="single records that may wait for a run; above it 503")
    max_batches: int = Field(64, ge=1, description="JSON batches that may wait for their turn; above it 503")
    max_explanations: int = Field(16, ge=1, description="explanations that may wait for their turn; above it 503")
    workers: int = Field(1, ge=1, le=256, description="processes that serve; a killed one is replaced")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")

    @property
    def gpu(self) -> Gpu:
        """What `load` is told of the GPU."""
        return Gpu(self.gpu_mode, self.gpu_memory, self.crossover)


def from_command_line(arguments: list[str] | None = None) -> Settings:
    """Flags before environment before defaults. Raises SettingsError; --help and unknown flags exit as usual."""
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        faults = (f"{_spelling(str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_url=False))
        raise SettingsError("; ".join(faults)) from None


def _spelling(name: str) -> str:
    """Both ways to write a setting, because the error does not know which one was used."""
    return f"--{name.replace('_', '-')} or HEART_{name.upper()}"
