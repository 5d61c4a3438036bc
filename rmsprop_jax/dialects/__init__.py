"""The RMSProp of each framework, with its argument names, order, defaults and rule.

A call can be pasted: `torch.optim.RMSprop(params, lr=1e-3, alpha=0.9)` is
`dialects.torch(lr=1e-3, alpha=0.9)`. Words of other versions are taken where they mean
the same or do not change the updates, and refused by name otherwise. The command
`python -m rmsprop_jax dialects` prints how the dialects differ. The equations are in
the letters of `rmsprop`: gradient `g`, second moment `s`, mean gradient `m`, direction
`u`, momentum buffer `b`, parameter `p`; where a dialect can be centered,
`scale_by_rmsprop` has the equations of that.

Every learning rate may be a schedule, and every number may be scheduled with
`optax.inject_hyperparams`. A momentum of 0 keeps no buffer. A momentum that is an
array, such as an injected one, keeps a buffer even if it is 0; the updates are equal.

One defect of the originals is not reproduced: their centered variance is `s - m**2`,
which rounding can make negative for a steady gradient, and its root NaN.
"""

from ._complex_pairs import ComplexParts as ComplexParts
from ._keras import keras as keras
from ._keras import keras_legacy as keras_legacy
from ._other_frameworks import flax_legacy as flax_legacy
from ._other_frameworks import jax_example_libraries as jax_example_libraries
from ._other_frameworks import mlx as mlx
from ._other_frameworks import paddle as paddle
from ._publications import d2l as d2l
from ._publications import dqn as dqn
from ._publications import graves as graves
from ._publications import hinton as hinton
from ._pytorch import bitsandbytes as bitsandbytes
from ._pytorch import stable_baselines3 as stable_baselines3
from ._pytorch import timm as timm
from ._pytorch import torch as torch
from ._tensorflow import sonnet as sonnet
from ._tensorflow import tensorflow1 as tensorflow1
