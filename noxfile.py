"""Fast tests with other versions, each in an environment of its own.

`nox` runs the oldest set that setup.cfg allows on the oldest Python that this machine has, and the newest set on the
newest; `nox -s each` runs the newest set on all of them.
"""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2024.3"

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
WITH_OLDEST = PYTHONS[:2]  # newer versions of Python need newer packages than the bounds
EXTRAS = ("demo", "arrow", "dask")

# Tests of kernels, laws, files and commands, on which versions of Python and of the dependencies have an influence.
FAST = (
    *("core", "laws", "features", "rules/test_rules.py", "rules/test_outside_rule.py", "commands"),
    *("test_memory.py", "test_frozen.py"),
)
SLOW = "commands/test_warming.py"  # compiles everything once more


def output_of(*command: str) -> str | None:
    """What a program prints; None if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return None if done.returncode else done.stdout.strip()


def found(versions: tuple[str, ...]) -> list[str]:
    """The versions of Python that run here."""
    return [version for version in versions if output_of(f"python{version}", "-c", "") is not None]


# All that pyenv has installed may run, after the one in use.
installed = output_of("pyenv", "versions", "--bare")
if installed:
    os.environ["PYENV_VERSION"] = ":".join([output_of("pyenv", "version-name") or "system", *installed.split()])

PRESENT = found(PYTHONS)
nox.options.sessions = ["oldest", "newest"]


def fast_tests(session: nox.Session, *constraints: str, options: tuple[str, ...] = ()) -> None:
    """Install the package with its extras, and run the tests with fewer examples of every property."""
    session.install("-e", f".[{','.join(EXTRAS)}]", "pytest", "hypothesis", "mpmath", *constraints)
    session.run("python", "-m", "pip", "list")
    settings = {"ASSOCMEM_EXAMPLES": "5", "NUMBA_CACHE_DIR": f"{session.create_tmp()}/numba"}
    session.run(
        "python", "-m", "pytest", *options, f"--ignore=tests/{SLOW}", *(f"tests/{name}" for name in FAST), env=settings
    )


@nox.session(python=found(WITH_OLDEST)[:1])
def oldest(session: nox.Session) -> None:
    """The oldest versions that setup.cfg allows."""
    setup = configparser.ConfigParser()
    setup.read("setup.cfg")
    extras = setup["options.extras_require"]
    bounds = "\n".join([setup["options"]["install_requires"], *(extras[name] for name in EXTRAS)])
    constraints = Path(session.create_tmp(), "oldest.txt")
    constraints.write_text(re.sub(r"\[.*\]", "", bounds).replace(">=", "=="))
    # Old packages use what newer ones, which have no bound here, have deprecated since.
    fast_tests(session, "-c", str(constraints), options=("-W", "ignore::DeprecationWarning"))


@nox.session(python=PRESENT[-1:])
def newest(session: nox.Session) -> None:
    """The newest versions that exist, on the newest Python."""
    fast_tests(session)


@nox.session(python=PRESENT)
def each(session: nox.Session) -> None:
    """The newest versions that exist, on every Python."""
    fast_tests(session)
