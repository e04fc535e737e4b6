"""A client beside the attacks: `python bystander.py PORT BODY` predicts until stdin ends.

In a process of its own, so that the attacks' own work does not count. It prints a line once it has an answer, and at
its end the seconds that each answer took.
"""

import json
import os
import sys
import time
from http.client import HTTPConnection

PAUSE = 0.005  # seconds


def ask(port: int, body: str) -> list[float]:
    """Raises AssertionError if an answer is not 200."""
    found = list[float]()
    os.set_blocking(0, False)
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    while sys.stdin.buffer.read(1) is None:
        began = time.monotonic()
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        found.append(time.monotonic() - began)
        if len(found) == 2:
            sys.stdout.write("\n")
            sys.stdout.flush()
        time.sleep(PAUSE)
    return found


if __name__ == "__main__":
    json.dump(ask(int(sys.argv[1]), sys.argv[2]), sys.stdout)
