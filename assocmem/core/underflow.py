"""Numbers below the range of their type become 0, also where a caller has told NumPy to raise (`numpy.seterr`)."""

from __future__ import annotations

from types import FunctionType
from typing import TypeVar

import numpy as np

Class = TypeVar("Class", bound=type)

BY_THEMSELVES = ("recall",)  # a single one has no time for it


def underflow_is_zero(cls: Class) -> Class:
    """Let the public methods of a class work with NumPy's default for underflow."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") or name in BY_THEMSELVES:
            continue
        if isinstance(member, FunctionType):
            setattr(cls, name, np.errstate(under="ignore")(member))
        elif isinstance(member, classmethod):
            setattr(cls, name, classmethod(np.errstate(under="ignore")(member.__func__)))
    return cls
