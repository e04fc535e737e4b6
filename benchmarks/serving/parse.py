"""The reference for batches, how fast orjson.loads alone reads them: `python -m benchmarks.serving.parse FILE`.

Waits for a line with a number of seconds, parses for so long, and answers with what it came to. Waiting costs nothing.
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
