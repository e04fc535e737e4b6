"""The measured servers, as a table: how to start and to call each.

Each runs as one process, or with one worker; one thread of ONNX Runtime; no access log; uvloop and
httptools wherever uvicorn runs. Adaptive batching is off: for a model this small it costs more than it saves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CEILING, NGINX, GRANIAN = "raw ASGI on Uvicorn", "nginx, fixed answer", "Granian RSGI, fixed answer"
OURS, QUIET, KEYS, IDS = (
    "this service",
    "this service, no access log",
    "this service, API keys",
    "this service, request ids",
)
TWO, TUTORIAL = "this service, 2 workers", "FastAPI tutorial"
FIXED = (CEILING, NGINX, GRANIAN)  # which repeat one answer, without reading JSON or running a model
SERVE = "python -m service --host 127.0.0.1 --port {port} --provider cpu --models {models}"
KEY = "heart_benchmark"  # a key of the benchmark's own, for this machine only

Patient = dict[str, Any]  # JSON: a number, or None where it was not taken


@dataclass(frozen=True, slots=True)
class Server:
    """One row of the table. Filled in: {port}, {port2}, {port3}, all free; {work}, a folder; {models}, ours."""

    name: str
    package: str  # the distribution whose version is shown, none for our own
    command: str
    how: str  # in the legend under the table
    venv: Path = ROOT / ".venv"
    prepare: str = ""  # run once beforehand, in the same environment
    single: str = "/predict"
    batch: str = "/predict/batch"
    wrap: Callable[[Patient | list[Patient]], Any] = lambda patients: patients  # makes this server's JSON
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # of each request
    quick: bool = False  # a peer that the quick run has time for

    @property
    def peer(self) -> bool:
        """Whether `make bench-peers` installs it."""
        return self.venv.parent.name == ".peers"

    @property
    def installed(self) -> bool:
        """Whether its environment exists."""
        return not self.peer or (self.venv / "made").exists()

    def version(self) -> str:
        """Its package and version; empty for our own."""
        found = self.venv.glob(f"lib/python*/site-packages/{self.package.replace('-', '_')}-*.dist-info")
        return next((folder.name.removesuffix(".dist-info").replace("-", " ") for folder in found), "")


def uvicorn(app: str) -> str:
    """The command that runs an ASGI application with the options of our own service."""
    options = "--loop uvloop --http httptools --no-access-log --no-server-header --no-proxy-headers --log-level warning"
    return f"python -m uvicorn benchmarks.peers.{app}:app --host 127.0.0.1 --port {{port}} {options}"


def records(patients: Patient | list[Patient]) -> Any:
    """MLflow's request format."""
    return {"dataframe_records": patients if isinstance(patients, list) else [patients]}


def tensors(patients: Patient | list[Patient]) -> Any:
    """Triton's request format: an object for one record, a tensor per field for many, MISSING for null."""
    many = patients if isinstance(patients, list) else [patients]
    columns = {name: [MISSING if patient[name] is None else patient[name] for patient in many] for name in many[0]}
    if patients is not many:
        return {name: values[0] for name, values in columns.items()}
    return {
        "inputs": [
            {"name": name, "shape": [len(many), 1], "datatype": "FP32", "data": values}
            for name, values in columns.items()
        ]
    }


PEERS = ROOT / ".peers"
TRITON = next((PEERS / "triton").glob("lib/python*/site-packages"), PEERS)
MISSING = -99  # as in peers/triton_model.py
ORJSON = PEERS / "orjson"  # the reference for batches: not a server

# Those with a fixed answer come after our service: they repeat what it answered to the checks.
SERVERS = (
    Server(OURS, "", SERVE, "validates; every default, among them the access log, which goes to a file"),
    Server(QUIET, "", f"{SERVE} --no-access-log", "the same without it"),
    Server(
        KEYS,
        "",
        f"{SERVE} --keys {{work}}/keys",
        "validates, with the access log, and checks an API key",
        prepare=f"""python -c 'open("keys", "w").write("benchmark {sha256(KEY.encode()).hexdigest()}")'""",
        headers={"Authorization": f"Bearer {KEY}"},
    ),
    Server(
        IDS,
        "",
        SERVE,
        "validates, with the access log; each request has an `X-Request-ID`, so that no head counts as known",
        headers={"X-Request-ID": "ward-7:42"},
    ),
    Server(CEILING, "uvicorn", uvicorn("ceiling"), "the same Uvicorn; reads the body, repeats one answer of ours"),
    Server(
        NGINX,
        "",
        "python -m benchmarks.peers.nginx {port}",
        "one process in C; discards the body, repeats one answer of ours (of batches, its beginning)",
    ),
    Server(
        GRANIAN,
        "granian",
        "granian --interface rsgi --host 127.0.0.1 --port {port} --workers 1 --loop uvloop --no-ws --no-access-log"
        " --log-level warning benchmarks.peers.granian_app:app",
        "a server in Rust with an interface of its own; reads the body, repeats one answer of ours",
        PEERS / "granian",
    ),
    Server(
        TUTORIAL,
        "fastapi",
        uvicorn("tutorial"),
        "pydantic model in, `response_model` out, encoding in Python, a run a request; graph cut behind its encoding",
        prepare="python -m benchmarks.peers.tutorial_model",
    ),
    Server(TWO, "", SERVE + " --workers 2", "two processes on the one core: what each request then costs"),
    Server(
        "MLServer",
        "mlserver",
        f"mlserver start {ROOT}/benchmarks/peers/mlserver",
        "runtime of its own, as it has none for ONNX; `custom_handler` routes; `parallel_workers: 0`",
        PEERS / "mlserver",
        quick=True,
        env={"MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "{port2}", "MLSERVER_METRICS_PORT": "{port3}"},
    ),
    Server(
        "BentoML",
        "bentoml",
        "bentoml serve benchmarks.peers.bentoml_service:Heart --host 127.0.0.1 --port {port} -q",
        "async APIs whose whole body is a pydantic model; 1 worker",
        PEERS / "bentoml",
        quick=True,
        env={"BENTOML_HOME": "{work}/bentoml", "BENTOML_DO_NOT_TRACK": "1"},
    ),
    Server(
        "LitServe",
        "litserve",
        "python -m benchmarks.peers.litserve_api {port}",
        "1 API server, 1 worker a route, `fast_queue`",
        PEERS / "litserve",
    ),
    Server(
        "Ray Serve",
        "ray",
        "python -m benchmarks.peers.ray_serve {port}",
        "FastAPI ingress, 1 replica, HAProxy and `RAY_SERVE_THROUGHPUT_OPTIMIZED`",
        PEERS / "ray",
        env={
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_health_check_failure_threshold": "1000",  # it is paused while others are measured
        },
    ),
    Server(
        "MLflow",
        "mlflow",
        "mlflow models serve -m {work}/mlflow --env-manager local -h 127.0.0.1 -p {port} -w 1",
        "ONNX flavour, signature of 13 columns, `dataframe_records`; checks types, not ranges",
        PEERS / "mlflow",
        prepare="python -m benchmarks.peers.mlflow_model",
        single="/invocations",
        batch="/invocations",
        wrap=records,
        env={
            "UVICORN_LOG_LEVEL": "warning",
            "UVICORN_ACCESS_LOG": "false",
            "UVICORN_LOOP": "uvloop",
            "UVICORN_HTTP": "httptools",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "MLFLOW_DISABLE_TELEMETRY": "1",
        },
    ),
    Server(
        "Triton",
        "nvidia-pytriton",
        f"{TRITON}/pytriton/tritonserver/bin/tritonserver"
        " --model-repository {work}/triton --backend-directory {work}/backends --http-address 127.0.0.1"
        " --http-port {port} --allow-grpc false --allow-metrics false --log-info false --log-warning false",
        "the C++ server that PyTriton packs, Python backend, `dynamic_batching`; JSON at `/generate`, V2 for batches",
        PEERS / "triton",
        prepare="python -m benchmarks.peers.triton_model",
        single="/v2/models/heart/generate",
        batch="/v2/models/heart/infer",
        wrap=tensors,
        env={"LD_LIBRARY_PATH": f"{TRITON}/nvidia_pytriton.libs", "PYTHONPATH": f"{ROOT}:{TRITON}"},
    ),
)
