"""Start nginx as one process that sends a fixed answer: the limit of what HTTP over sockets allows here.

`python -m benchmarks.peers.nginx PORT`
"""

import os
import sys
from pathlib import Path

CONFIGURATION = """daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_buffer_size 1m;
    client_body_temp_path {work}/nginx-body;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /predict/batch {{ return 200 '{batch}'; }}
        location / {{ return 200 '{single}'; }}
    }}
}}
"""


def main() -> None:
    work = Path(os.environ["BENCH_WORK"])
    answers = {kind: (work / f"{kind}.answer").read_text() for kind in ("single", "batch")}
    answers["batch"] = answers["batch"][:3000]  # nginx limits the length of a string in its configuration
    file = work / "nginx.conf"
    file.write_text(CONFIGURATION.format(work=work, port=sys.argv[1], **answers))
    os.execvp("nginx", ["nginx", "-c", str(file), "-p", str(work), "-e", "stderr"])  # noqa: S606, S607


if __name__ == "__main__":
    main()
