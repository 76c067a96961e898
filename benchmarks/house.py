"""The shape of the package: files, lines, rooms, imports and functions, and the time to import it.

``python -m benchmarks.house`` measures this checkout, ``--source FOLDER`` the ``src`` of another, such as an earlier
version.
"""

import argparse
import ast
import os
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path

REPEATS = 5


def modules(package):
    """Get the syntax tree of every module, by its path in the package."""
    return {path.relative_to(package): ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}


def room_of(path):
    """Name the room of a module: its folder, or the file itself at the root."""
    return path.parts[0].removesuffix(".py")


def imports(tree):
    """Get the modules of the package that a module imports, without the name of the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stmmr":
            parts = node.module.split(".")[1:]
            yield from [parts] if parts else [[alias.name] for alias in node.names]


def shape(package):
    """Measure the package."""
    trees = modules(package)
    private = 0
    rooms = {}
    for path, tree in trees.items():
        room = room_of(path)
        for other, *inside in imports(tree):
            if other == room or other.startswith("__"):
                continue
            rooms.setdefault(room, set()).add(other)
            private += other != "_core" and any(part.startswith("_") for part in inside)
    functions = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    text = {path: (package / path).read_text() for path in trees}
    return {
        "files": len(trees),
        "lines of Python": sum(source.count("\n") for source in text.values()),
        "lines with page, style and script": sum(
            path.read_text().count("\n")
            for path in package.rglob("*")
            if path.suffix in (".py", ".js", ".css", ".html")
        ),
        "files at the root": sum(len(path.parts) == 1 for path in trees),
        "rooms": len({room_of(path) for path in trees} - {"__init__"}),
        "arrows between rooms": sum(map(len, rooms.values())),
        "depth of imports between rooms": depth(rooms),
        "private imports across rooms": private,
        "longest function (lines without docstring)": max(map(length, functions)),
        "most parameters of a function": max(map(parameters, functions)),
        "functions over 60 lines": sum(length(function) > 60 for function in functions),
        "functions with more than 8 parameters": sum(parameters(function) > 8 for function in functions),
        "Any": sum(source.count("Any") for source in text.values()),
    }


def depth(rooms):
    """Count the rooms on the longest chain of imports."""

    @cache
    def below(room):
        return 1 + max((below(other) for other in rooms.get(room, ()) if other != "__init__"), default=0)

    return max(below(room) for room in rooms if room != "__init__")


def length(function):
    """Count the lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return function.end_lineno - body[0].lineno + 1


def parameters(function):
    """Count the parameters of a function without self and cls."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([argument for argument in arguments if argument.arg not in ("self", "cls")])


def seconds(*command, source):
    """Get the processor time of a command as a whole process: the median, after one run that fills the caches."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    taken = []
    for _ in range(REPEATS + 1):
        start = processor_seconds()
        subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True)
        taken.append(processor_seconds() - start)
    return statistics.median(taken[1:])


def processor_seconds():
    """Get the time of all finished children, which other programs on the machine change less than the wall time."""
    used = os.times()
    return used.children_user + used.children_system


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src")
    source = parser.parse_args().source
    table = shape(source / "stmmr")
    table["processor seconds of import stmmr"] = round(seconds("-c", "import stmmr", source=source), 2)
    table["processor seconds of stmmr --help"] = round(seconds("-m", "stmmr.cli", "--help", source=source), 2)
    for name, value in table.items():
        print(f"{name:<46}{value:>10,}")


if __name__ == "__main__":
    main()
