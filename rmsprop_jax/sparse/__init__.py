"""RMSProp for large tables that updates only the rows a step uses.

The result is that of the dense optimizer, to rounding. It is possible because a row
with a zero gradient only decays, by an amount that depends on the number of steps
alone: each row remembers when it was last updated, and the steps that it missed are
applied in closed form when the row is next needed.
"""

from ._idle_schedule import IdleSums as IdleSums
from ._idle_schedule import ScheduleState as ScheduleState
from ._row_gradients import RowGradients as RowGradients
from ._row_gradients import value_and_row_grad as value_and_row_grad
from ._sparse_rmsprop import SparseTransformation as SparseTransformation
from ._sparse_rmsprop import rmsprop as rmsprop
from ._table_state import TableState as TableState
