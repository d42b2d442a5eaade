"""Saving a memory to a safetensors file, and loading it, format 2 included."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem.cell import Cell
from assocmem.core import checks, files
from assocmem.features.crelu import CReLUFeatures
from assocmem.rules import RULES

KIND = "memory"

_CONFIGURATION = (
    *("key_dim", "expansion", "whiten", "bias", "center", "seed", "dtype"),
    *("value_dim", "rule", "rule_parameters", "ledger"),
)

# Names of format 2, and those that replaced them.
_RENAMED_ARRAYS = {"fixed_features": "constraint_features", "fixed_values": "constraint_values"}
_RENAMED_PARAMETERS = {"forgetting": "decay"}


def save(cell: Cell, path: str | os.PathLike[str]) -> None:
    """Save the state and the weights, solved for beforehand, so that a loaded memory recalls at once."""
    files.target_of(path)  # before the weights are solved for
    with cell.writing:
        arrays = {**cell.current().arrays(), "weights": cell.view().weights}
        files.save(path, KIND, {**cell.configuration(), "fingerprint": cell.fingerprint()}, arrays)


def load(path: str | os.PathLike[str]) -> Cell:
    """Load a saved cell, or refuse the file."""
    header, arrays = files.load(path, KIND)
    try:
        features = CReLUFeatures.of(header)
        value_dim = checks.as_size("value_dim", header["value_dim"])
        parameters = {_RENAMED_PARAMETERS.get(name, name): value for name, value in header["rule_parameters"].items()}
        if header["rule"] not in RULES:
            raise ValueError(f"no rule {header['rule']!r} is known; define it and call assocmem.register first")
        cell = Cell(features, RULES[header["rule"]](**parameters), value_dim, ledger=header.get("ledger") is True)
        # "center" and "ledger" stand only where there is one.
        written = {name: header[name] for name in _CONFIGURATION if name in header}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        files.refuse_header(path, f"{type(error).__name__}: {error}")
    if header.get("fingerprint") != files.fingerprint(written, features.projection.signs):
        files.refuse_header(path, "its configuration and signs are not those that the memory was written with")
    named: dict[str, NDArray[Any]] = {_RENAMED_ARRAYS.get(name, name): array for name, array in arrays.items()}
    state = cell.start()
    weights = {"weights": ((cell.shape.rank, value_dim), cell.shape.dtype)}
    files.refuse_other_arrays(path, named, {**state.layout(named), **weights})
    if named["n_stored"] < 0:
        files.refuse_header(path, f"n_stored is {named['n_stored']}")
    solved = np.ascontiguousarray(named["weights"])
    state.fill(named)
    if state.ledger is not None and len(state.ledger) != state.n_stored:
        files.refuse_header(path, f"n_stored is {state.n_stored}, and the ledger has {len(state.ledger)} digests")
    cell.commit(state, solved)
    return cell
