"""Steps compiled for an accelerator that is not here, and what their programs have."""

import functools
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from .. import sharding
from ._contenders import BANDWIDTHS, Contender, step_of
from ._machine_code import Kernel, Launch, kernels, launches
from ._programs import Program
from ._roofline import Bounds, bounds, picoseconds
from ._shapes import Shapes
from ._targets import TARGETS, Gpu, compile_only_devices, compiler_options

AXIS = "data"
SCHEMES = ("sharded", "ZeRO-1")


class Compiled(NamedTuple):
    """A compiled program, with all that the compilers say of it.

    Attributes:
      program: its text, taken apart.
      memory: the result of `memory_analysis`.
      run, kernels: the launches and the kernels of a GPU; empty on a TPU.
      seconds: of processor time that it took to compile.
    """

    program: Program
    memory: Any
    run: list[Launch]
    kernels: dict[str, Kernel]
    seconds: float


class CompiledRow(NamedTuple):
    """What the program of one contender has, on one tree for one target.

    Attributes:
      leaves, parameters: their numbers; of the parameters those on one device.
      bytes_moved: bytes per parameter that the kernels read and write, and `limit` the
        smallest number that there can be.
      kernels: launches in a step.
      temporary_bytes: the most that is held beside arguments and results.
      not_aliased: bytes of the donated arrays that are not overwritten in place.
      ptx, machine: instructions per parameter, in PTX and in machine code.
      registers, spills: the most that a thread of a kernel needs; bytes.
      cycles: per parameter, as the compiler for TPU estimates them.
      collectives: {kind: (number, bytes of the whole arrays)}.
    """

    target: str
    tree: str
    contender: str
    leaves: int
    parameters: int
    bytes_moved: float
    limit: float
    kernels: int
    temporary_bytes: int
    not_aliased: int
    ptx: float
    machine: float
    registers: int
    spills: int
    cycles: float
    bounds: Bounds
    compile_seconds: float
    collectives: dict[str, tuple[int, float]]


@functools.cache
def _devices(target: str) -> list[Any]:
    return compile_only_devices(TARGETS[target])


def single(target: str) -> SingleDeviceSharding:
    """Return the sharding of what is on the first device of a target."""
    return SingleDeviceSharding(_devices(target)[0])


def mesh_of(target: str) -> Mesh:
    """Return all devices of a target as a mesh of one axis."""
    return Mesh(np.asarray(_devices(target)), (AXIS,))


def abstract(tree: Any, where: Any) -> Any:
    """Give abstract arrays a sharding, or each its own."""
    if isinstance(where, jax.sharding.Sharding):
        where = jax.tree.map(lambda _: where, tree)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where
    )


def parameters(shapes: Shapes, dtype: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Return abstract parameters, in the order of the shapes."""
    return {
        f"{k:04d}": jax.ShapeDtypeStruct(x, jnp.dtype(dtype))
        for k, x in enumerate(shapes)
    }


def compile_for(
    target: str,
    function: Callable[..., Any],
    *arguments: Any,
    assemble: bool = True,
    **jit: Any,
) -> Compiled:
    """Compile a function of abstract arrays, and collect what its program has.

    Args:
      target: a key of `TARGETS`.
      function: what to compile.
      arguments: abstract arrays with shardings of the target.
      assemble: whether to look into the kernels of a GPU too.
      jit: other arguments of `jax.jit`.
    """
    run, found = [], {}
    lowered = jax.jit(function, **jit).lower(*arguments)
    with tempfile.TemporaryDirectory() as dump:
        options = compiler_options(TARGETS[target], dump if assemble else None)
        start = _processor_seconds()
        made = lowered.compile(options)
        seconds = _processor_seconds() - start
        if assemble:
            run, found = launches(Path(dump)), kernels(Path(dump))
    program = Program(made.as_text() or "")
    return Compiled(program, made.memory_analysis(), run, found, seconds)


def _processor_seconds() -> float:
    """Return the time of all threads and children, which other work does not change."""
    return sum(os.times()[:4])


def compile_step(
    target: str, contender: Contender, shapes: Shapes, scheme: str | None = None
) -> Compiled:
    """Compile a donated step: on one device, or on all in one of `SCHEMES`.

    In "sharded", parameters, gradients and state are divided in one way. In "ZeRO-1"
    the parameters are whole on each device, the state is divided, and each device has a
    gradient of its own, of which the step takes the sum.
    """
    init, update = step_of(contender)
    params = parameters(shapes, contender.dtype)
    state = jax.eval_shape(init, params)
    donated: dict[str, Any] = {"donate_argnums": (0, 1)}
    if scheme is None:
        where = single(target)
        p, s = abstract(params, where), abstract(state, where)
        return compile_for(target, update, p, s, p, **donated)
    mesh, tx = mesh_of(target), optax.GradientTransformation(init, update)
    divided = sharding.zero1_shardings(optax.trace(0.9), params, mesh, AXIS).trace
    if scheme == "sharded":
        placed = sharding.state_shardings(tx, params, divided)
        p, s = abstract(params, divided), abstract(state, placed)
        return compile_for(
            target, update, p, s, p, out_shardings=(divided, placed), **donated
        )
    whole = jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), params)
    placed = sharding.zero1_shardings(tx, params, mesh, AXIS)

    def summed(params: Any, state: Any, gradients: Any) -> Any:
        # `jnp.sum` would add, and send, float16 and bfloat16 as float32.
        total = jax.tree.map(
            lambda g: jax.lax.reduce(g, np.zeros((), g.dtype), jax.lax.add, (0,)),
            gradients,
        )
        return update(params, state, total)

    gradients = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((mesh.size, *x.shape), x.dtype), params
    )
    each = NamedSharding(mesh, PartitionSpec(AXIS))
    return compile_for(
        target,
        summed,
        abstract(params, whole),
        abstract(state, placed),
        abstract(gradients, each),
        out_shardings=(whole, placed),
        **donated,
    )


def measure_compiled(
    target: str,
    tree: str,
    name: str,
    contender: Contender,
    shapes: Shapes,
    scheme: str | None = None,
) -> CompiledRow:
    """Compile a contender and count."""
    made = compile_step(target, contender, shapes, scheme)
    size = sum(math.prod(shape) for shape in shapes)
    local = size // TARGETS[target].count if scheme else size
    kept = size * (jnp.dtype(contender.dtype).itemsize + contender.state_bytes)
    kept = kept if scheme is None else kept / TARGETS[target].count
    moved = made.program.traffic()
    cycles = made.program.estimated_cycles() / local
    return CompiledRow(
        target,
        tree if scheme is None else f"{tree}, {scheme}",
        name,
        len(shapes),
        local,
        moved / local,
        contender.bytes_moved,
        len(made.run) or len(made.program.kernels()),
        made.memory.temp_size_in_bytes,
        max(int(kept) - made.memory.alias_size_in_bytes, 0),
        _per_parameter(made, lambda kernel: kernel.ptx, local),
        _per_parameter(made, lambda kernel: sum(kernel.machine.values()), local),
        max((x.registers for x in made.kernels.values()), default=-1),
        sum(x.spills for x in made.kernels.values()) if made.kernels else -1,
        cycles or math.nan,
        _bounds(target, made, moved / local, contender.bytes_moved, local),
        made.seconds,
        made.program.collectives(),
    )


def _per_parameter(made: Compiled, of: Callable[[Kernel], int], size: int) -> float:
    """Return instructions of all threads of all launches, per parameter."""
    total = sum(x.threads * of(made.kernels[x.kernel]) for x in made.run)
    return total / size or math.nan


def _bounds(
    target: str, made: Compiled, moved: float, limit: float, size: int
) -> Bounds:
    device = TARGETS[target].device
    if isinstance(device, Gpu):
        per_byte = 1e12 / device.bandwidth
        by_instructions = picoseconds(made.run, made.kernels, device, size)
    else:
        per_byte = cycles_per_byte(target)
        by_instructions = made.program.estimated_cycles() / size
    return bounds(moved * per_byte, by_instructions, limit * per_byte)


@functools.cache
def cycles_per_byte(target: str) -> float:
    """Return the cycles that the compiler for TPU estimates for a byte that moves.

    The leaf is large, so that it does not move some of it ahead of the kernel.
    """
    bytes_, scale = BANDWIDTHS["scale in place"]
    shape = (8192, 4096)
    leaf = abstract(jax.ShapeDtypeStruct(shape, jnp.float32), single(target))
    made = compile_for(target, lambda p: scale(p, (), ())[0], leaf, donate_argnums=0)
    return made.program.estimated_cycles() / (bytes_ * math.prod(shape))
