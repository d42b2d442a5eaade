"""Associative memory with CReLU features and a linear readout: store, recall and forget vectors."""

from assocmem.crelu import CReLUFeatures, crelu, inverse_crelu
from assocmem.frozen import FrozenMemory
from assocmem.hadamard import HadamardProjection
from assocmem.memory import AssociativeMemory
from assocmem.rules import DeltaRule, Hebbian, RecursiveLeastSquares, Ridge

__all__ = [
    "AssociativeMemory",
    "CReLUFeatures",
    "DeltaRule",
    "FrozenMemory",
    "HadamardProjection",
    "Hebbian",
    "RecursiveLeastSquares",
    "Ridge",
    "crelu",
    "inverse_crelu",
]
__version__ = "0.1.0"
