"""The accelerators that programs are compiled for. None of them has to be here."""

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

CUDA_PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
XLA_SPECS = "github.com/openxla/xla, xla/backends/gpu/target_config/specs"


class Gpu(NamedTuple):
    """A GPU as XLA's compiler needs to know it.

    Attributes:
      name: what the driver calls it.
      capability: its CUDA compute capability.
      cores: number of multiprocessors.
      float_lanes: float32 additions or multiplications of a multiprocessor per clock.
      clock: in GHz.
      bandwidth: bytes per second of its memory.
      memory, cache: bytes of its memory, and of its level 2 cache.
      shared, shared_per_block: bytes of shared memory of a multiprocessor, and the most
        that a block can ask for.
      source: where these numbers are from.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    float_lanes: int
    clock: float
    bandwidth: int
    memory: int
    cache: int
    shared: int
    shared_per_block: int
    source: str

    @property
    def description(self) -> str:
        """The text of XLA's `GpuTargetConfigProto`.

        XLA does not compile without the version of the CUDA runtime
        (openxla/xla#25919).
        """
        major, minor = self.capability
        return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: {self.cores}
  fpus_per_core: {self.float_lanes}
  clock_rate_ghz: {self.clock}
  memory_bandwidth: {self.bandwidth}
  device_memory_size: {self.memory}
  l2_cache_size: {self.cache}
  shared_memory_per_block: 49152
  shared_memory_per_core: {self.shared}
  shared_memory_per_block_optin: {self.shared_per_block}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{self.name}"
"""


class Tpu(NamedTuple):
    """A TPU; its compiler knows the rest.

    Attributes:
      name: what its maker calls it.
      memory: bytes of the memory of a chip.
      source: where these numbers are from.
    """

    name: str
    memory: int
    source: str


H100 = Gpu(
    "NVIDIA H100 80GB HBM3",
    (9, 0),
    cores=132,
    float_lanes=128,
    clock=1.98,
    bandwidth=3_352_320_000_000,
    memory=84_942_979_072,
    cache=52_428_800,
    shared=233_472,
    shared_per_block=232_448,
    source=f"{XLA_SPECS}/h100_sxm.txtpb",
)
H200 = H100._replace(
    name="NVIDIA H200 141GB HBM3e",
    bandwidth=4_800_000_000_000,
    memory=151_397_597_184,
    source=f"{XLA_SPECS}/h200.txtpb",
)
A100 = Gpu(
    "NVIDIA A100-SXM4-80GB",
    (8, 0),
    cores=108,
    float_lanes=64,
    clock=1.41,
    bandwidth=2_039_040_000_000,
    memory=85_100_068_864,
    cache=41_943_040,
    shared=167_936,
    shared_per_block=166_912,
    source=f"{XLA_SPECS}/a100_sxm_80.txtpb",
)
TPU_PAGES = "docs.cloud.google.com/tpu/docs"
V5E = Tpu("TPU v5e", 16 * 2**30, f"{TPU_PAGES}/v5e")
V5P = Tpu("TPU v5p", 95 * 2**30, f"{TPU_PAGES}/v5p")
V6E = Tpu("TPU v6e", 32 * 2**30, f"{TPU_PAGES}/v6e")


class Target(NamedTuple):
    """A number of devices of one kind, and the topology that JAX finds them in."""

    device: Gpu | Tpu
    topology: str
    count: int = 1


TARGETS: dict[str, Target] = {
    "h100": Target(H100, "1x1x1"),
    "h100x8": Target(H100, "1x1x8", 8),
    "h200": Target(H200, "1x1x1"),
    "a100": Target(A100, "1x1x1"),
    "a100x8": Target(A100, "1x1x8", 8),
    "tpu-v5e": Target(V5E, "v5e:2x2"),
    "tpu-v5e-4": Target(V5E, "v5e:2x2", 4),
    "tpu-v5e-16": Target(V5E, "v5e:4x4", 16),
    "tpu-v5p": Target(V5P, "v5p:2x2x1"),
    "tpu-v5p-4": Target(V5P, "v5p:2x2x1", 4),
    "tpu-v6e": Target(V6E, "v6e:2x2"),
    "tpu-v6e-4": Target(V6E, "v6e:2x2", 4),
}


def missing_compiler(target: Target) -> str | None:
    """Return the sentence that says how to install the compiler; None if it is here."""
    version = jax.__version__
    if isinstance(target.device, Tpu):
        command, there = f'pip install "jax[tpu]=={version}"', _installed("libtpu")
    else:
        command = (
            f"pip install jax-cuda12-plugin=={version} jax-cuda12-pjrt=={version} "
            "nvidia-cuda-nvcc-cu12 nvidia-cuda-nvdisasm"
        )
        there = any(map(_installed, CUDA_PLUGINS)) and tool("ptxas")
    if there:
        return None
    return (
        f"The compiler for {target.device.name} is not installed. Install it with "
        f"`{command}`; it needs no such device."
    )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that the module is in
        return False


@functools.cache
def tool(name: str) -> Path | None:
    """Return the path of a program of NVIDIA's wheels, or None."""
    found = importlib.util.find_spec("nvidia") if _installed("nvidia") else None
    folders = found.submodule_search_locations if found else None
    paths = [p for folder in folders or () for p in Path(folder).glob(f"*/bin/{name}")]
    return paths[0] if paths else None


def compile_only_devices(target: Target) -> list[Any]:
    """Return devices that can be compiled for, and nothing else."""
    if isinstance(target.device, Tpu):
        # Nothing may ask the network which TPU this is, and libtpu needs a kind.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
        found = topologies.get_topology_desc(target.topology, "tpu")
    else:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
        found = topologies.get_topology_desc(
            "",
            "cuda",
            topology=target.topology,
            target_config=target.device.description,
        )
    return list(found.devices)[: target.count]


def compiler_options(target: Target, dump: str | None = None) -> dict[str, Any]:
    """Return the options that compile without a device.

    A compiler for a GPU leaves the launches and the PTX of its kernels in `dump`.
    """
    if isinstance(target.device, Tpu):
        return {}
    ptxas = tool("ptxas")
    assert ptxas is not None  # `missing_compiler` has been asked
    options = {
        "xla_gpu_cuda_data_dir": str(ptxas.parents[1]),
        "xla_gpu_autotune_level": 0,
    }
    return options if dump is None else {**options, "xla_dump_to": dump}
