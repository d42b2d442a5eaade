"""Associative memory with CReLU features and a linear readout: store, recall and forget vectors."""

from assocmem.crelu import CReLUFeatures, crelu, inverse_crelu
from assocmem.editing import Edit, Locality, least_squares_edit
from assocmem.frozen import FrozenMemory
from assocmem.hadamard import HadamardProjection
from assocmem.memory import AssociativeMemory
from assocmem.rules import DeltaRule, Hebbian, RecursiveLeastSquares, Ridge

__all__ = [
    "AssociativeMemory",
    "CReLUFeatures",
    "DeltaRule",
    "Edit",
    "FrozenMemory",
    "HadamardProjection",
    "Hebbian",
    "Locality",
    "RecursiveLeastSquares",
    "Ridge",
    "crelu",
    "inverse_crelu",
    "least_squares_edit",
]
__version__ = "0.1.0"
