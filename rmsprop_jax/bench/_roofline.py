"""Bounds on a step from its compiled program. They are no times.

A step cannot be faster than its bytes at the bandwidth of the memory, nor faster than
its instructions at the rate at which the units of the device start them. Waiting,
caches, launches and clocks below the highest are in no bound.

Rates of NVIDIA's units, in results per clock and multiprocessor: CUDA C++ Programming
Guide, "Throughput of Native Arithmetic Instructions", compute capabilities 8.0 and 9.0.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ._machine_code import Kernel, Launch
from ._targets import Gpu

ISSUED = 128  # four schedulers start an instruction of 32 threads each
INTEGER = 64  # also comparisons, minimum, maximum, shifts, logic, selections
SPECIAL = 16  # reciprocals, roots, and conversions by the same unit
FLOAT_NAMES = ("FADD", "FMUL", "FFMA", "HADD2", "HMUL2", "HFMA2")
SPECIAL_NAMES = ("MUFU", "I2F", "F2I", "F2F")
# These only take a turn of a scheduler, or go to units that nothing here fills.
ISSUED_NAMES = (
    *("LDG", "STG", "LD", "ST", "LDC", "ULDC", "LDCU", "S2R", "S2UR", "CS2R", "MOV"),
    *("EXIT", "BRA", "BSSY", "BSYNC", "CALL", "RET", "ACQBULK", "NOP"),
)


class Bounds(NamedTuple):
    """Two bounds on the step, per parameter, and what is left of the first.

    They are picoseconds on a GPU. On a TPU they are cycles: those of the bytes, as the
    compiler estimates them for a plain scaling in place, and those that it estimates.

    Attributes:
      share: the bound of the bytes that a step must move, over the highest bound.
    """

    by_bytes: float
    by_instructions: float
    share: float

    @property
    def higher(self) -> str:
        if abs(self.by_bytes - self.by_instructions) <= 0.02 * self.by_bytes:
            return "both"
        return "instructions" if self.by_instructions > self.by_bytes else "bytes"


def bounds(by_bytes: float, by_instructions: float, by_limit: float) -> Bounds:
    """Compare; an unknown bound is NaN, and leaves the other one."""
    known = [x for x in (by_bytes, by_instructions) if not math.isnan(x)]
    return Bounds(by_bytes, by_instructions, by_limit / max(known))


def clocks(machine: Mapping[str, int], gpu: Gpu) -> float:
    """Return the clocks that a multiprocessor needs for one thread, at the least."""
    counts = {"float": 0, "IMAD": 0, "special": 0, "integer": 0, "issued": 0}
    for name, count in machine.items():
        counts[_unit(name)] += count
    return max(
        sum(counts.values()) / ISSUED,
        counts["float"] / gpu.float_lanes + counts["IMAD"] / INTEGER,
        counts["special"] / SPECIAL,
        counts["integer"] / INTEGER,
    )


def _unit(name: str) -> str:
    if name in FLOAT_NAMES:
        return "float"
    if name == "IMAD":  # runs on the unit of the float instructions
        return "IMAD"
    if name in SPECIAL_NAMES:
        return "special"
    uniform = name.startswith("U") and name not in ISSUED_NAMES
    return "issued" if uniform or name in ISSUED_NAMES else "integer"


def picoseconds(
    run: list[Launch], kernels: Mapping[str, Kernel], gpu: Gpu, parameters: int
) -> float:
    """Return the bound by instructions per parameter; NaN where they are unknown."""
    if not all(kernels[launch.kernel].machine for launch in run):
        return math.nan
    total = sum(x.threads * clocks(kernels[x.kernel].machine, gpu) for x in run)
    return 1e3 * total / (gpu.cores * gpu.clock) / parameters
