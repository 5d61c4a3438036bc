"""Exact RMSProp for large tables, at the cost of the rows that a step touches.

A row with a zero gradient only decays, and by a known amount. So it is enough to know
when a row was last touched: what it missed is made up for in closed form when it is
next needed. Table and state are those of the dense optimizer, to rounding.
"""

from ._motion import Schedule as Schedule
from ._row_gradients import RowGradients as RowGradients
from ._row_gradients import value_and_grad as value_and_grad
from ._sparse_rmsprop import SparseTransformation as SparseTransformation
from ._sparse_rmsprop import rmsprop as rmsprop
from ._table_state import TableState as TableState
