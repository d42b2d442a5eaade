"""Settings of hypothesis for the whole suite: no deadlines, since the first example compiles; the same examples."""

import os

# Matrices in the tests are small: threads of BLAS gain nothing on them, and spin for seconds on a busy machine.
# Before NumPy is loaded, and in the processes that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "assocmem", deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("assocmem")
