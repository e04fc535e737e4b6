"""End processes with those that started them."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl.h


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, even by SIGKILL. Without effect outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
