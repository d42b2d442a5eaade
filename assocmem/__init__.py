"""An online least-squares map from keys to values, of fixed size, with exact deletion and known capacity.

    keys → features/ → rules/ → cell.py → memory.py → values

core/        arguments, files, compilation, threads       laws/      what a memory recalls, as formulas
features/    Hadamard projection, CReLU, noisy keys       capacity/  predict, plan and measure memories
rules/       hebbian, delta, ridge, rls: one file each    commands/  the command line (extra `demo`)
cell.py      the state behind one door                    frozen.py  read-only memories for serving
memory.py    `AssociativeMemory`, over `base.py`          operations/ delete, edit, diagnose, settle, stream
"""

from assocmem.core.threads import set_num_threads
from assocmem.features.crelu import CReLUFeatures, crelu, inverse_crelu
from assocmem.features.hadamard import HadamardProjection
from assocmem.frozen import FrozenMemory
from assocmem.memory import AssociativeMemory
from assocmem.operations.editing import Edit, Locality, least_squares_edit
from assocmem.rules import (
    AdditiveRule,
    DeltaRule,
    Hebbian,
    RecursiveLeastSquares,
    Ridge,
    Rule,
    Shape,
    Solved,
    State,
    register,
)

__all__ = [
    "AdditiveRule",
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
    "Rule",
    "Shape",
    "Solved",
    "State",
    "crelu",
    "inverse_crelu",
    "least_squares_edit",
    "register",
    "set_num_threads",
]
__version__ = "0.1.0"
