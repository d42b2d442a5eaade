"""Every public function works where a caller has told NumPy to raise, whatever the scale of keys and values."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import warnings
import numpy as np
np.seterr(all="raise")
warnings.simplefilter("ignore")
warnings.simplefilter("error", RuntimeWarning)
from assocmem import AssociativeMemory, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge, crelu, inverse_crelu
from assocmem import laws
from assocmem.capacity import plan, sign_report

rng = np.random.default_rng(0)
SCALES = {"float64": [(1, 1), (1e-140, 1e-150), (1e-3, 1e-300), (1, 5e-324), (1e140, 1e-10), (1, 0),
                      (1e140, 1e140), (1e145, 1e-300), (1e-100, 1e100)],
          "float32": [(1, 1), (1e-14, 1e-30), (1, 1e-44), (1, 0)]}
RULES = [Ridge(), Ridge(1.0), Ridge(1e300), Ridge(1e-300), Ridge("gcv"), Ridge(query_cosine=0.9),
         Ridge(1.0, decay=0.5), RecursiveLeastSquares(), Hebbian(), Hebbian(decay=0.5), DeltaRule()]

def asked(function):
    try:
        return function()
    except (ValueError, TypeError) as error:  # a refusal
        assert "encountered" not in str(error), error

def check(rule, dtype, size, unit, n):
    with np.errstate(under="ignore"):
        keys, values = size * rng.standard_normal((n, 6)), unit * rng.standard_normal((n, 2))
        queries, halves = size * rng.standard_normal((3, 6)), 0.5 * values
    memory = AssociativeMemory(6, 2, expansion=2, rule=rule, dtype=dtype)
    memory.recall(keys)
    memory.store(keys, values)
    memory.store(queries[0], values[0])
    memory.recall(queries), memory.recall(queries[0]), memory.weights, memory.offset, memory.alpha, memory.n_effective
    memory.copy(), memory.solution
    for ask in (
        lambda: memory.forget(queries[0], values[0]),
        lambda: memory.replace(keys[0], values[0], halves[0]),
        lambda: memory.merge(memory),
        lambda: memory.recall(queries, return_confidence=True),
        lambda: memory.leverage(keys),
        lambda: memory.leave_one_out(keys[1:], values[1:]),
        lambda: memory.verify_forgotten(queries),
        lambda: memory.copy().edit(queries[:1], halves[:1]),
        lambda: memory.copy().edit(queries[:1], halves[:1], penalty=0.1),
        lambda: memory.copy().edit(queries[:1], halves[:1], metric=keys),
        lambda: memory.error_bound,
        lambda: memory.solution,
        lambda: memory.diagnose(query_cosine=0.0),
        lambda: memory.diagnose(keys=queries),
        lambda: memory.store_from((keys, values)),
        lambda: sign_report(memory),
        memory.recompute,
    ):
        asked(ask)
    for precision in ("float64", "float32", "int8"):
        frozen = asked(lambda: memory.freeze(precision, sample=queries))
        if frozen is not None:
            frozen.recall(queries), frozen.recall(queries[0])
    if isinstance(rule, Ridge) and rule.alpha == 1.0 and rule.decay == 1.0:
        patterns = AssociativeMemory(6, 6, rule=rule, dtype=dtype)
        patterns.store(keys, keys, query_cosine=0.8)
        for activation in ("sign", "normalize", "clip"):
            patterns.settle(queries, activation)

for i, rule in enumerate(RULES):
    for dtype, scales in SCALES.items():
        for j, (size, unit) in enumerate(scales):
            check(rule, dtype, size, unit, (2, 40)[(i + j) % 2])
inverse_crelu(crelu([[1.0, -2e-310, 0.0]]))
for query_cosine in (1e-3, 0.5, 1.0):
    asked(lambda: plan(64, 4, 30, error=0.4, query_cosine=query_cosine))
    asked(lambda: plan(8, 4, 9, error=0.4, query_cosine=query_cosine, keys=1e-140 * rng.standard_normal((60, 8))))
    for load in (1e-300, 0.5, 2.0, 1e300):
        for penalty in (0.0, 1e-300, 1.0, 1e300):
            laws.ridge_law(load, penalty, query_cosine).sign_error
for kind in ("sign", "gaussian", "onehot"):
    AssociativeMemory(6, 2).diagnose(kind=kind)
"""


def test_numpy_may_raise_on_everything():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, check=False, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
