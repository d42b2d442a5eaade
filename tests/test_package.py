"""What importing the package may cost, and that nothing it says about itself is stale."""

import subprocess
import sys
from importlib.metadata import version

import assocmem

PROBE = """
import sys
import assocmem
optional = "typer", "rich", "matplotlib", "sklearn", "dask", "distributed", "pyarrow", "torch", "scipy.optimize"
edges = [m for m in optional if m in sys.modules]
compiled = [
    f"{name}.{key}"
    for name, module in list(sys.modules.items()) if name.startswith("assocmem")
    for key, value in vars(module).items() if getattr(value, "signatures", None)
]
print(edges, compiled)
"""


def test_import_loads_only_the_core_and_compiles_nothing():
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]", "[]"]


def test_version():
    assert assocmem.__version__ == version("assocmem")


def test_every_public_name_exists_and_is_documented():
    for name in assocmem.__all__:
        assert getattr(assocmem, name).__doc__
