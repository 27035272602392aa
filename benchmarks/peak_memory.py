"""Peak resident memory of this process alone."""

import resource
import sys
from pathlib import Path


def high_water_mb() -> float:
    """Peak resident memory of this process in MB.

    Linux keeps `ru_maxrss` over fork and exec, so a child would report the peak of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
