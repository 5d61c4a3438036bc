"""RMSProp for JAX: the one you meant, as an ordinary optax transformation."""

from . import diagnostics as diagnostics
from . import dialects as dialects
from . import interop as interop
from . import recipes as recipes
from . import sharding as sharding
from . import sparse as sparse
from ._alias import rmsprop as rmsprop
from ._master_weights import MasterWeightsState as MasterWeightsState
from ._master_weights import master_weights as master_weights
from ._master_weights import restore_master_weights as restore_master_weights
from ._master_weights import split_master_weights as split_master_weights
from ._storage import BFloat16 as BFloat16
from ._storage import Float32 as Float32
from ._storage import Format as Format
from ._storage import UInt8 as UInt8
from ._transform import RMSPropState as RMSPropState
from ._transform import scale_by_rmsprop as scale_by_rmsprop

__version__ = "0.1.0"
