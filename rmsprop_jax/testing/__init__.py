"""The laws that every optax transformation should keep, as checks for authors.

    from rmsprop_jax.testing import assert_conformant

    assert_conformant(optax.adam, excuse={"hashes_stably": "optax has closures"})

`LAWS` lists the laws by number. Each is checked by a function whose docstring states it
and gives its source. `python -m rmsprop_jax.testing` prints which of them the
optimizers of optax break, and `--laws` lists them.
"""

from . import _chex as _chex
from ._examine import assert_conformant as assert_conformant
from ._examine import examine as examine
from ._law import Law as Law
from ._report import Broken as Broken
from ._report import Report as Report
from ._subject import DoesNotApply as DoesNotApply
from ._subject import Subject as Subject
from .laws import LAWS as LAWS
