"""RMSProp for JAX, as ordinary optax transformations."""

import importlib
import typing

from . import diagnostics as diagnostics
from . import dialects as dialects
from . import interop as interop
from . import recipes as recipes
from . import sharding as sharding
from . import sparse as sparse
from ._master_weights import MasterWeightsState as MasterWeightsState
from ._master_weights import master_weights as master_weights
from ._master_weights import restore_master_weights as restore_master_weights
from ._master_weights import split_master_weights as split_master_weights
from ._momentum import MomentumState as MomentumState
from ._momentum import trace as trace
from ._rmsprop import rmsprop as rmsprop
from ._scale_by_rmsprop import RMSPropState as RMSPropState
from ._scale_by_rmsprop import scale_by_rmsprop as scale_by_rmsprop
from ._storage import BFloat16 as BFloat16
from ._storage import Float32 as Float32
from ._storage import Format as Format
from ._storage import UInt8 as UInt8

if typing.TYPE_CHECKING:
    from . import plots as plots
    from . import testing as testing

__version__ = "0.1.0"

_IMPORTED_WHEN_USED = ("plots", "testing")  # these load matplotlib and chex


def __getattr__(name: str) -> typing.Any:
    if name in _IMPORTED_WHEN_USED:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_IMPORTED_WHEN_USED])
