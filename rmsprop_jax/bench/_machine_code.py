"""Instructions, registers and spills of the kernels that XLA compiled for a GPU.

XLA leaves PTX and the sequence of launches; NVIDIA's `ptxas` makes machine code of the
PTX, and `nvdisasm` names its instructions.
"""

import collections
import math
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from ._targets import tool

LAUNCH = re.compile(r"(\S+) grid: \[([\d, ]+)\] threads: \[([\d, ]+)\]")
ENTRY = re.compile(r"\.entry (\w+)\(.*?\n\{\n(.*?)\n\}", re.DOTALL)
PTXAS = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)
SECTION = re.compile(r"^\.text\.(\w+):\n(.*?)(?=^\.section|^//-----|\Z)", re.M | re.S)
MACHINE = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+ )?([A-Z][A-Z0-9]*)")
PADDING = "NOP"


class Kernel(NamedTuple):
    """What a thread of one kernel runs, counted along all of its branches.

    Attributes:
      ptx: number of PTX instructions.
      machine: number of machine instructions of each name; empty without `nvdisasm`.
      registers: that a thread needs.
      spills: bytes that a thread stores and loads because registers are short.
      repeats: whether there is a loop, whose instructions are counted once.
    """

    ptx: int
    machine: dict[str, int]
    registers: int
    spills: int
    repeats: bool


class Launch(NamedTuple):
    """A launch of a kernel by its name, in a number of threads."""

    kernel: str
    threads: int


def launches(dump: Path) -> list[Launch]:
    """Return the launches of one run of the program, in order."""
    found = sorted(dump.glob("*thunk_sequence_after_thunk_passes.txt")) or sorted(
        dump.glob("*thunk_sequence.txt")
    )
    text = max((path.read_text() for path in found), key=len, default="")
    return [
        Launch(name, math.prod(int(n) for n in f"{grid}, {threads}".split(", ")))
        for name, grid, threads in LAUNCH.findall(text)
    ]


def kernels(dump: Path) -> dict[str, Kernel]:
    """Assemble the PTX of each kernel, and count."""
    found = {}
    for path in dump.glob("*.ptx"):
        text = path.read_text()
        bodies = dict(ENTRY.findall(text))
        if not bodies:
            continue
        said, machine = _assemble(path, text)
        for name, body in bodies.items():
            spills, registers = said.get(name, (0, 0))
            found[name] = Kernel(
                _ptx(body), machine.get(name, {}), registers, spills, _repeats(body)
            )
    return found


def _ptx(body: str) -> int:
    lines = (line.strip() for line in body.splitlines())
    return sum(line.endswith(";") and not line.startswith(".") for line in lines)


def _repeats(body: str) -> bool:
    """Tell whether a branch goes back."""
    labels = {x[1]: x.start() for x in re.finditer(r"^(\$\w+):", body, re.M)}
    branches = re.finditer(r"\bbra(?:\.uni)?\s+(\$\w+);", body)
    return any(labels.get(x[1], x.end()) < x.start() for x in branches)


def _assemble(
    path: Path, text: str
) -> tuple[dict[str, tuple[int, int]], dict[str, dict[str, int]]]:
    """Return (spills, registers) and the machine instructions of each kernel."""
    target = re.findall(r"\.target (\w+)", text)[0]
    cubin = path.with_suffix(".cubin")
    command = [str(tool("ptxas")), "-v", "-arch", target, str(path), "-o", str(cubin)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    said = {
        name: (int(stores) + int(loads), int(registers))
        for name, stores, loads, registers in PTXAS.findall(output)
    }
    nvdisasm = tool("nvdisasm")
    if nvdisasm is None:
        return said, {}
    command = [str(nvdisasm), "-c", str(cubin)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return said, {name: _machine(code) for name, code in SECTION.findall(listing)}


def _machine(code: str) -> dict[str, int]:
    """Count by name, without the endless jump and the padding behind the end."""
    counts = collections.Counter(MACHINE.findall(code))
    del counts[PADDING]
    return dict(counts)
