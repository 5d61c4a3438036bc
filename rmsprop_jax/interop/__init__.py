"""Checkpoints in and out: a run moves over in mid-training.

`torch`, `keras` and `optax` each turn what their framework saves into the state of a
transformation of ours, and back. They are pure: what is given is never changed, and a
mismatch raises one error that lists every entry. None of them imports its framework.
`orbax` restores a checkpoint as it was or refuses it; `storage` converts a state.
"""

from . import keras as keras
from . import optax as optax
from . import orbax as orbax
from . import storage as storage
from . import torch as torch
