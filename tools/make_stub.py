"""Writes pynode/__init__.pyi from the table of public names in pynode/__init__.py: python tools/make_stub.py [--check]

The names are loaded when they are first used, which type checkers cannot follow; the stub tells them where each one is. The
table is the source and the stub is made from it. The other way round, lazy_loader's attach_stub, reads the stub whenever
pynode is imported: a dependency at run time in place of 15 lines.

    python tools/make_stub.py            write the stub
    python tools/make_stub.py --check    fail where it is out of date
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "pynode" / "__init__.py"
STUB = SOURCE.with_suffix(".pyi")


def table(name: str) -> object:
    """The literal that is assigned to `name` in pynode/__init__.py; nothing is imported, so that no core need be built."""
    for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body:
        target = (
            node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
        )
        if isinstance(target, ast.Name) and target.id == name:
            assert isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            return ast.literal_eval(node.value)
    raise SystemExit(f"tools/make_stub.py: {SOURCE} has no table {name}")


def public_names() -> dict[str, list[str]]:
    """Module -> the public names that it defines."""
    homes = table("_HOMES")
    assert isinstance(homes, dict)
    return homes


def public_modules() -> list[str]:
    modules = table("_MODULES")
    assert isinstance(modules, tuple)
    return list(modules)


def stub() -> str:
    """The text of the stub."""
    homes = {**public_names(), "pynode._version": ["__version__"]}
    modules = public_modules()
    lines = ["# Made from the table in __init__.py by tools/make_stub.py", ""]
    lines += [f"from pynode import {name} as {name}" for name in sorted(modules)]
    lines += [f"from {home} import {name} as {name}" for home in sorted(homes) for name in sorted(homes[home])]
    everything = sorted([*modules, *(name for names in homes.values() for name in names)])
    lines += ["", "__all__ = [  # noqa: RUF022", *(f'    "{name}",' for name in everything), "]", ""]
    return "\n".join(lines)


def main() -> int:
    if "--check" not in sys.argv[1:]:
        STUB.write_text(stub(), encoding="utf-8")
        return 0
    if not STUB.exists() or STUB.read_text(encoding="utf-8") != stub():
        print(f"{STUB.relative_to(ROOT)} is out of date: python tools/make_stub.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
