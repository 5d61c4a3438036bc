"""The text of a compiled program: kernels, bytes, estimated cycles, collectives."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?")
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (.*)")
COLLECTIVE = re.compile(
    r"(all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|"
    r"collective-broadcast|ragged-all-to-all)(-start)?"
)
# What takes no bytes: names, views, and the ends of what a "-start" has counted.
FREE = re.compile(
    "parameter|constant|tuple|get-tuple-element|bitcast|after-all|partition-id|"
    "replica-id|optimization-barrier|domain|iota|.*-done"
)
KERNELS = ("fusion", "copy", "custom-call", "sort", "scatter", "gather", "reduce")
PARTS = ("gather", "slice", "dynamic-slice")  # do not take all of their first operand
HBM, HOST = 0, 5  # numbers of memory spaces, in the layouts: S(5)


class Instruction(NamedTuple):
    """One line of a computation: its name, result, operation, operands, and the rest.

    `result` is the text of the type, of which `arrays` gives the arrays.
    """

    name: str
    result: str
    operation: str
    operands: tuple[str, ...]
    rest: str

    @property
    def called(self) -> str | None:
        found = re.search(r"(?:calls|to_apply)=%?([\w.-]+)", self.rest)
        return found[1] if found else None


class Array(NamedTuple):
    """The bytes of an array, and the number of its memory space."""

    bytes: float
    space: int


def arrays(result: str) -> list[Array]:
    """Return the arrays of a type as it is printed."""
    return [
        Array(_itemsize(dtype) * math.prod(map(int, re.findall(r"\d+", dims))), s)
        for dtype, dims, layout in ARRAY.findall(result)
        for s in [int((re.findall(r"S\((\d+)\)", layout) or [HBM])[0])]
    ]


def _itemsize(dtype: str) -> float:
    if dtype == "pred":
        return 1.0
    width = re.match(r"[a-z]+(\d+)", dtype)
    return int(width[1]) / 8 if width else 0.0  # a token has none


class Program:
    """The computations of a compiled module, by their names."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        lines: dict[str, Instruction] = {}
        for line in text.splitlines():
            # Long lists have comments, "/*index=5*/", whose "=" is none of a name.
            line = re.sub(r"/\*.*?\*/", "", line)
            head = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
            if head:
                lines = self.computations[head[2]] = {}
                self.entry = head[2] if head[1] else self.entry
            elif found := INSTRUCTION.match(line):
                lines[found[1]] = _instruction(*found.groups())

    def run(self) -> Iterator[tuple[dict[str, Instruction], Instruction]]:
        """Yield what the entry runs, each with the computation that it is in."""
        yield from self._run(self.entry)

    def _run(self, name: str) -> Iterator[tuple[dict[str, Instruction], Instruction]]:
        lines = self.computations[name]
        for line in lines.values():
            if line.operation == "call" and line.called:
                yield from self._run(line.called)
            elif not FREE.fullmatch(line.operation):
                yield lines, line

    def kernels(self) -> list[Instruction]:
        """Return what is a launch of its own; "ConcatBitcast" only names an array."""
        return [
            line
            for _, line in self.run()
            if line.operation in KERNELS
            and "ConcatBitcast" not in line.rest
            and any(x.space != 6 for x in arrays(line.result))  # scalar memory
        ]

    def estimated_cycles(self) -> int:
        """Return the sum of the cycles that the compiler for TPU estimates."""
        found = r'"estimated_cycles":"(\d+)"'
        lines = (line.rest for _, line in self.run())
        return sum(int(x) for line in lines for x in re.findall(found, line))

    def traffic(self, space: int = HBM) -> float:
        """Return the bytes that the entry reads from and writes to a memory space."""
        return float(sum(_total(self._moved(*x), space) for x in self.run()))

    def _moved(self, lines: dict[str, Instruction], line: Instruction) -> list[Array]:
        """Return the arrays that an instruction reads and writes."""
        operands = [lines[x].result for x in line.operands if x in lines]
        if "ConcatBitcast" in line.rest or COLLECTIVE.fullmatch(line.operation):
            return []
        if line.operation == "copy-start":  # gives (destination, source, context)
            return arrays(line.result)[:2]
        if line.operation == "slice-start":  # gives ((source), destination, context)
            source, target = arrays(line.result)[:2]
            return [target, Array(target.bytes, source.space)]
        if line.operation in PARTS:
            return [*_like(operands[0], arrays(line.result)), *arrays(line.result)]
        if line.operation == "fusion" and line.called in self.computations:
            return self._fused(self.computations[line.called], operands, line.result)
        return [x for text in [*operands, line.result] for x in arrays(text)]

    def _fused(
        self, inner: dict[str, Instruction], operands: list[str], result: str
    ) -> list[Array]:
        """Return what a fusion moves: of an operand perhaps parts, of a result too."""
        moved, overwritten = [], set()
        results = arrays(result)
        for line in inner.values():
            if line.operation in ("scatter", "dynamic-update-slice"):
                update = line.operands[-1 if line.operation == "scatter" else 1]
                kept = inner.get(line.operands[0])
                overwritten.add(_origin(inner, kept.name) if kept else "")
                whole, part = arrays(line.result)[0].bytes, arrays(inner[update].result)
                results = [
                    Array(part[0].bytes, x.space) if x.bytes == whole else x
                    for x in results
                ]
        for line in inner.values():
            if line.operation != "parameter":
                continue
            outer = operands[int(re.findall(r"\d+", line.rest)[0])]
            users = [x for x in inner.values() if line.name in x.operands]
            parts = [
                x for x in users if x.operation in PARTS and x.operands[0] == line.name
            ]
            if line.name in overwritten or (users and len(parts) == len(users)):
                moved += [y for x in parts for y in _like(outer, arrays(x.result))]
            else:
                moved += arrays(outer)
        return moved + results

    def collectives(self) -> dict[str, tuple[int, float]]:
        """Return how many collectives of each kind there are, and their bytes.

        The bytes are those of the whole arrays: what an all-gather gives, and what an
        all-reduce or a reduce-scatter takes on each device.
        """
        found: dict[str, tuple[int, float]] = {}
        for lines in self.computations.values():
            for line in lines.values():
                if kind := COLLECTIVE.fullmatch(line.operation):
                    count, total = found.get(kind[1], (0, 0.0))
                    found[kind[1]] = count + 1, total + _whole(lines, line, kind[1])
        return found


def _whole(lines: dict[str, Instruction], line: Instruction, kind: str) -> float:
    taken = sum(x.bytes for name in line.operands for x in arrays(lines[name].result))
    given = sum(x.bytes for x in arrays(line.result))
    if line.operation.endswith("-start") and kind != "all-reduce":
        given -= taken  # its result lists the operands too
    return max(taken, given)


def _origin(inner: dict[str, Instruction], name: str) -> str:
    """Return the parameter that a name is a view of."""
    while inner[name].operation in ("bitcast", "copy") and inner[name].operands:
        name = inner[name].operands[0]
    return name


def _like(outer: str, parts: list[Array]) -> list[Array]:
    spaces = [x.space for x in arrays(outer)]
    return [Array(x.bytes, spaces[0]) for x in parts]


def _total(moved: Iterable[Array], space: int) -> float:
    return float(sum(x.bytes for x in moved if x.space == space))


def _instruction(name: str, text: str) -> Instruction:
    """Take a line apart; the type may be a tuple, with parentheses in its layouts."""
    end = _closing(text, 0) if text[0] == "(" else text.index(" ") - 1
    result, text = text[: end + 1], text[end + 2 :]
    start = text.index("(")
    end = _closing(text, start)
    inside = text[start + 1 : end]
    operands = tuple(re.findall(r"%([\w.-]+)", inside))
    return Instruction(name, result, text[:start], operands, text[start:])


def _closing(text: str, start: int) -> int:
    depth = 0
    for k in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[k], 0)
        if depth == 0:
            return k
    return len(text)
