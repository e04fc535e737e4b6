"""The reference for batches, the speed of orjson.loads alone: `python -m benchmarks.serving.parse FILE`.

Waits for a line with a number of seconds, parses for that long, and prints the result. Waiting uses no processor time.
"""

import json
import sys
import time
from pathlib import Path

import orjson

bodies = Path(sys.argv[1]).read_bytes().splitlines()
for line in sys.stdin:
    count, now = 0, time.perf_counter()
    begun, end = now, now + float(line)
    while now < end:
        orjson.loads(bodies[count % len(bodies)])
        count, now = count + 1, time.perf_counter()
    sys.stdout.write(json.dumps({"requests": count, "seconds": now - begun}) + "\n")
    sys.stdout.flush()
