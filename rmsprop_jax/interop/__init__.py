"""Checkpoints of other frameworks, both ways: a run continues where it stopped.

`torch`, `keras` and `optax` each turn what their framework saves into the state of a
transformation of ours, and back. They never change their arguments, and raise one error
that lists everything that does not fit. None of them imports its framework. `orbax`
restores a checkpoint exactly as it was saved, or refuses it; `storage` converts a state
to another storage format.
"""

from . import keras as keras
from . import optax as optax
from . import orbax as orbax
from . import storage as storage
from . import torch as torch
