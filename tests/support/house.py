"""Says what breaks the rules of the house, and how to mend it. `make lint` runs it.

    python tests/support/house.py [ROOT]

Exit code 1 if anything does.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE_ROOTS = ("operator", "workers")
MOST_LINES = 400


def find_breaches(root: Path) -> list[str]:
    """One line for each breach: the path, what is wrong, what to do."""
    return [
        f"{path.relative_to(root)}: {breach}"
        for source in SOURCE_ROOTS
        for path, breach in _walk(root / source)
    ]


def _walk(source: Path) -> Iterator[tuple[Path, str]]:
    for shadow in (source / "__init__.py", source / f"{source.name}.py"):
        if shadow.exists():
            # With operator/__init__.py even `import collections` fails from the root of the checkout.
            yield shadow, f"makes {source.name}/ a package; it is a source root: remove the file"
    for module in sorted(source.rglob("*.py")):
        if module.parent == source:
            continue
        if not (module.parent / "__init__.py").exists():
            yield module, f"{module.parent.name}/ is no package: add an __init__.py that says what it is for"
        text = module.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MOST_LINES:
            yield module, f"{lines} lines, at most {MOST_LINES}: find the second noun in it, give it a module"
        if not ast.get_docstring(ast.parse(text)):
            yield module, "no docstring: begin with a sentence that says what is in it"


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2]
    breaches = find_breaches(root)
    for breach in breaches:
        print(breach, file=sys.stderr)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
