"""What importing the package may cost, and that nothing it says about itself is stale."""

import configparser
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import assocmem

ROOT = Path(__file__).parent.parent

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


def test_the_citation_is_of_this_version():
    """With the keys that the Citation File Format 1.2.0 requires."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([a-z-]+): *(.*)$", text, re.MULTILINE))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert fields.keys() >= {"cff-version", "message", "title", "authors", "abstract", "keywords"}
    assert fields["cff-version"] == "1.2.0"
    assert fields["version"] == setup["metadata"]["version"]
    assert fields["license"] == setup["metadata"]["license"]
