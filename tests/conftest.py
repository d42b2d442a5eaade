"""Settings of the whole suite, made before NumPy and numba are loaded and inherited by processes that tests start."""

import hashlib
import os
import tempfile
from pathlib import Path

# Matrices in the tests are small: threads of BLAS gain nothing on them, and spin for seconds on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def compiled_loops() -> Path:
    """Folder for numba's cache, named by a hash of the sources.

    Numba looks only at the file of the outermost function: after an edit of a function that it inlines, it would keep
    running the old code.
    """
    package = Path(__file__).parent.parent / "assocmem"
    sources = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        sources.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"assocmem-numba-{sources.hexdigest()[:16]}-{user}"


os.environ.setdefault("NUMBA_CACHE_DIR", str(compiled_loops()))

# The same examples in every run, and no deadlines, since the first example compiles; runs that compare versions take
# fewer (noxfile.py).
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "assocmem",
    deadline=None,
    derandomize=True,
    max_examples=int(os.environ.get("ASSOCMEM_EXAMPLES", "25")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("assocmem")
