"""Data runs one way, and so do the imports, those inside functions included."""

import ast
from pathlib import Path

import assocmem

PACKAGE = Path(assocmem.__file__).parent

# What each part may import, besides itself. The memories and what stands above them are asked for by users.
BELOW = {
    "core": set(),
    "laws": {"core"},
    "features": {"core"},
    "rules": {"core", "laws"},
    "cell": {"core", "features", "rules"},
    "operations": {"core", "laws", "features", "rules", "cell"},
    "frozen": {"core", "features", "cell"},
    "base": {"core", "laws", "features", "rules", "cell", "operations", "frozen"},
    "inspection": {"core", "laws", "features", "rules", "cell", "operations", "frozen", "base"},
    "memory": {"core", "laws", "features", "rules", "cell", "operations", "frozen", "base", "inspection"},
    "capacity": {"core", "laws", "features", "rules", "cell", "operations", "frozen", "base", "inspection", "memory"},
}
# The package itself, "assocmem", stands above everything but capacity and the commands, which users call.
BELOW["capacity"] |= {"assocmem"}
BELOW["commands"] = {*BELOW, *BELOW["capacity"]}
BELOW["__main__"] = {"commands"}


def imports(path):
    """Modules of the package that a file imports, not counting those for types alone."""
    name = "assocmem." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    typing = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if node in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = PACKAGE.parent.joinpath(*inner.split(".")).with_suffix(".py").exists()
                is_package = PACKAGE.parent.joinpath(*inner.split("."), "__init__.py").exists()
                found.add(inner if is_module or is_package else node.module)
    return name.removesuffix(".__init__"), {module for module in found if module.split(".")[0] == "assocmem"}


GRAPH = dict(imports(path) for path in sorted(PACKAGE.rglob("*.py")))


def part(module):
    return module.split(".")[1] if "." in module else "assocmem"


def test_every_part_imports_only_what_is_below_it():
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if part(module) != "assocmem" and part(other) != part(module) and part(other) not in BELOW[part(module)]
    ]
    assert wrong == []
    assert {part(module) for module in GRAPH} == {"assocmem", *BELOW}


def test_there_is_no_circle():
    """Take out, again and again, the modules that import nothing that is left: in the end none is."""
    left = {module: {other for other in others if other in GRAPH} - {module} for module, others in GRAPH.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}
