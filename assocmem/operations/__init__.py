"""What a memory can be asked beyond store, recall, save and load: free functions over a rule, a state and features.

A module is imported when it is first used, as ``operations.NAME``.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assocmem.operations import attractors, confidence, conversion, deletion, diagnosis, editing, saving, streaming

__all__ = ["attractors", "confidence", "conversion", "deletion", "diagnosis", "editing", "saving", "streaming"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
