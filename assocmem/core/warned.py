"""Warnings that name the line outside of this package that led to them."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

# Functions of NumPy stand between those of this package where it sets how errors are handled.
INSIDE = (str(Path(__file__).parents[1]), str(Path(np.__file__).parent))


def warn(message: str) -> None:
    """Issue a UserWarning for the nearest caller outside of this package, whatever stands between."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
