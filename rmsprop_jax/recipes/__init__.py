"""Published settings of RMSProp, each with its schedule and its clipping.

A recipe is the part of a published training setting that belongs to the optimizer: a
dialect, its numbers, the learning rate over time, clipping before it, and weight decay
if the loss had an L2 penalty. What no source gives is a required argument.
`python -m rmsprop_jax recipes` prints every number with its source, and whether it
stands in code or in the paper, or is only reported.

Every recipe also takes `storage`, `nonfinite` and `seed`, as `rmsprop` does, and works
under `optax.inject_hyperparams`.
"""

from ._agents import a2c_baselines as a2c_baselines
from ._agents import a2c_sb3 as a2c_sb3
from ._agents import a3c as a3c
from ._agents import acer_baselines as acer_baselines
from ._agents import dqn_dopamine as dqn_dopamine
from ._agents import dqn_nature as dqn_nature
from ._agents import dqn_zoo as dqn_zoo
from ._agents import impala as impala
from ._agents import torchbeast as torchbeast
from ._sequences import graves_handwriting as graves_handwriting
from ._vision import efficientnet as efficientnet
from ._vision import inception_v3 as inception_v3
from ._vision import inception_v4 as inception_v4
from ._vision import mnasnet as mnasnet
from ._vision import mobilenet_v2 as mobilenet_v2
from ._vision import mobilenet_v3_torchvision as mobilenet_v3_torchvision
