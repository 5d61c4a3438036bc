"""Exact RMSProp for large tables, at the cost of the rows that a step touches.

A row with a zero gradient only decays, and by a known amount. So it is enough to know
when a row was last touched: what it missed is made up for in closed form when it is
next needed. Table and state are those of the dense optimizer, to rounding.
"""

from ._alias import SparseTransformation as SparseTransformation
from ._alias import rmsprop as rmsprop
from ._lookup import RowGradients as RowGradients
from ._lookup import value_and_grad as value_and_grad
from ._motion import Schedule as Schedule
from ._state import TableState as TableState
