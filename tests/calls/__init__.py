"""A small valid call of every public function: the table that the laws of the whole API are held over."""

from tests.calls.arrays import Call, is_key
from tests.calls.estimates import ESTIMATES
from tests.calls.functions import FUNCTIONS
from tests.calls.modules import MODULES

__all__ = ["CALLS", "Call", "is_key"]

CALLS: dict[str, Call] = {**FUNCTIONS, **MODULES, **ESTIMATES}
