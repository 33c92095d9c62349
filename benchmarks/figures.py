"""What every benchmark says of its figures: the machine they are of, and how they spread."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

from apportion.run.rundir import cpu_name


def machine() -> dict[str, Any]:
    return {"cpu": cpu_name(), "platform": platform.platform(), "cores": os.cpu_count()}


def quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "quartile1": low, "quartile3": high}
