"""What the sources say of themselves, in the forms that Sphinx reads: for the reference of the module.

Docstrings are lines of text, with some conventions of Markdown; what a name stands for is often a comment behind it.
"""

import ast
import io
import re
import tokenize
from pathlib import Path


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def is_item(line: str) -> bool:
    return line.lstrip().startswith("- ")


def restructured(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText: what is set off there by a look is set off by blank lines or colons.

    An indented block below a colon is code, a list begins and ends without a blank line, the names of a section's
    argument go on in the next line, and a star and a bar stand for themselves.
    """
    found, code = [], False
    for line in lines:
        before = found[-1] if found else ""
        if line and not before and line.startswith("    ") and len(found) > 1 and found[-2].endswith(":"):
            found[-2] += ":"
            code = True
        code = code and (not line or line.startswith("    "))
        if not code:
            line = re.sub(r"(`[^`]*`)|(\*\*|\|)", lambda part: part[1] or re.sub(r"(.)", r"\\\1", part[2]), line)
            if indent(line) > indent(before) and re.fullmatch(r"\s+[\w, ]+,", before):
                found[-1] = f"{before} {line.lstrip()}"
                continue
            begins = is_item(line) and not is_item(before) and indent(line) == indent(before)
            ends = not is_item(line) and any(map(is_item, found)) and indent(line) < indent(before) + is_item(before)
            if line and before and (begins or ends):
                found.append("")
        found.append(line)
    return found


def comments(path: Path, module: str) -> dict[str, str]:
    """What the comments behind a file's assignments say, or those above that begin with `#:`, by the full name."""
    source = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    at = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    tree, found = ast.parse(source), {}
    scopes = [(module, tree)] + [
        (f"{module}.{node.name}", node) for node in tree.body if isinstance(node, ast.ClassDef)
    ]
    for scope, node in scopes:
        for assignment in node.body:
            if not isinstance(assignment, ast.Assign | ast.AnnAssign):
                continue
            target = assignment.targets[0] if isinstance(assignment, ast.Assign) else assignment.target
            first, last = assignment.lineno, assignment.end_lineno
            while at.get(first - 1, "").startswith("#:"):
                first -= 1
            told = [at[line] for line in range(first, assignment.lineno)] or [
                at[line] for line in (last,) if line in at
            ]
            if told and isinstance(target, ast.Name):
                found[f"{scope}.{target.id}"] = " ".join(re.sub("^#:? *", "", comment) for comment in told)
    return found
