"""The structure of the package, as its import statements have it.

A room is a module or a folder at the top of the package. `docs/architecture.py` draws
from here, and `test_package.py` holds the walls.
"""

import ast
import collections
import graphlib

# The rooms that each room may import. A room imports only rooms that stand above it.
WALLS = {
    "_arguments": "",
    "_precision": "",
    "_rule": "",
    "_dither": "",
    "_palette": "",
    "_text_tables": "",
    "_placement": "_arguments",
    "_number_lines": "",
    "_trees": "_arguments",
    "_storage": "_arguments _dither _placement _precision",
    "_boundary": "_arguments _placement _precision _trees",
    "_scale_by_rmsprop": "_arguments _boundary _dither _placement _precision _rule "
    "_storage _trees",
    "_momentum": "_arguments _boundary _dither _placement _precision _rule _storage "
    "_trees",
    "_rmsprop": "_arguments _boundary _momentum _placement _precision _rule "
    "_scale_by_rmsprop _storage _trees",
    "_master_weights": "_arguments _dither _number_lines _placement _precision "
    "_storage _trees",
    "dialects": "_arguments _precision _rmsprop _rule _storage _text_tables _trees",
    "recipes": "_arguments _rmsprop _rule _storage _text_tables dialects",
    "interop": "_arguments _rmsprop _storage _trees dialects",
    "sparse": "_arguments _dither _placement _precision _rule _storage",
    "sharding": "_arguments _placement _trees",
    "diagnostics": "_arguments _placement _rmsprop _rule _scale_by_rmsprop _storage "
    "_text_tables _trees",
    "plots": "_arguments _palette",
    "demo": "_palette _scale_by_rmsprop",
    "testing": "",
    "bench": "_master_weights _palette _rmsprop _storage _text_tables sharding",
    "__main__": "",
}
# Programs and tools, which no other room imports; `__init__` loads two when used.
ENDS = ("plots", "demo", "testing", "bench", "__main__")


def imports(package):
    """Return {module: modules of the package that it imports}, by dotted names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        folder = path.relative_to(package).parts[:-1]
        name = ".".join([*folder, path.stem])
        found[name] = set(_imported(ast.parse(path.read_text()), folder, package))
    return found


def _imported(tree, folder, package):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*folder[: len(folder) + 1 - node.level]]
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                parts = [*base, alias.name]
                there = package.joinpath(*parts)
                is_module = there.with_suffix(".py").exists() or there.is_dir()
                target = parts if is_module else base
                inside = package.joinpath(*target).is_dir()
                yield ".".join([*target, "__init__"] if inside else target)


def rooms(modules):
    """Return the imports between rooms: {room: rooms}, without `__init__`."""
    found = collections.defaultdict(set)
    for module, others in modules.items():
        room = module.split(".")[0]
        found[room] |= {other.split(".")[0] for other in others} - {room}
        found[room].discard("__init__")
    found.pop("__init__", None)
    return dict(found)


def breaches(found, walls=WALLS, ends=ENDS):
    """List what stands against the walls: rooms by their imports, and the walls."""
    faults = [f"{room} is in no line of WALLS" for room in found if room not in walls]
    faults += [f"there is no {room}" for room in walls if room not in found]
    seen = set()
    for room, allowed in walls.items():
        allowed = set(allowed.split())
        faults += [f"{room} stands above {x}" for x in allowed - seen]
        faults += [f"{room} imports {x}" for x in found.get(room, set()) - allowed]
        faults += [f"{room} imports {x}" for x in found.get(room, set()) & {*ends}]
        faults += [
            f"{room} need not import {x}" for x in allowed - found.get(room, set())
        ]
        seen.add(room)
    return faults


def circle(modules):
    """Return a circle of modules that import each other, or None."""
    try:
        graphlib.TopologicalSorter(modules).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def twins(paths):
    """Return the names that two private files have."""
    names = [p.name for p in paths if p.name[0] == "_" and not p.name.startswith("__")]
    return [name for name, n in collections.Counter(names).items() if n > 1]
