"""Which failure of a run means that the GPU is lost."""

import re

# ONNX Runtime raises Fail, RuntimeException or a plain RuntimeError, and has no type for this: only its words tell.
# They go on with the machine's name and a line of source, after " ; ".
FAILURE = re.compile(r"(CUDA|CUBLAS\w*|CUDNN\w*|CURAND) (?:failure|error) ?(\d*)[^;\n]*")
PASSING = {"2", *map(str, range(900, 910))}  # no memory left; a graph's capture that was disturbed


def lost(error: Exception) -> str | None:
    """What happened to the device, if it will not recover; None for any other failure.

    A CUDA context in which one kernel has failed answers every later call with the same error, until the process ends.
    """
    found = FAILURE.search(str(error))
    if found is None or (found[1] == "CUDA" and found[2] in PASSING) or "ALLOC_FAILED" in found[0]:
        return None
    return found[0].strip()


def reason(error: Exception) -> str:
    """What went wrong, in one line: CUDA's own words where there are any."""
    found = FAILURE.search(str(error))
    return found[0].strip() if found else str(error).partition("\n")[0]
