"""What the chapters' figures and widgets show, against the records in tests/figures.

    python tests/records.py         runs each chapter and records what it shows, and all outlines (make records)
    python tests/records.py 03 05   runs only these; the outlines, which need no run, are all written

A record that still holds, but for last digits, stays as it is. What a widget shows must be what the plain function
gives for its controls' values, whatever the record says: WIDGETS names that function.
"""

import difflib
import itertools
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
import outlines
from chapters import CHAPTERS
from kernel_recorder import MIME
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

HERE = Path(__file__).resolve().parent
UNITS = 5  # of the last digit, by which a number may differ: other processors round otherwise
TOKEN = re.compile(r'("(?:[^"\\]|\\.)*"|-?\d+\.\d*(?:e-?\d+)?)')
MODEL = "load_checkpoint({0} if {0} != widgets.OWN else {0}_path)"
GENERATED = f"""generate({MODEL}, prime=widgets.fitted(prime, {MODEL}), temperature=temperature,
prior_temperature=prior_temperature, length=600, seed=seed)"""
#: Of each widget, by notebook and cell, the plain function of its controls, in the names that the notebook has at its
#: end; and the moves to try, where those of `kernel_recorder.others` will not do.
WIDGETS = {
    "01_vae draw-slide": ("draw(z1=z1, z2=z2, beta=beta)", None),
    "01_vae own-live": (
        "encoded(strokes=strokes, number=number, beta=beta)",
        [("number", "40"), ("strokes", "seven"), ("beta", "0"), ("beta", "6"), ("strokes", "[]")],
    ),
    "02_reparameterization_trick draw-slide": ("draw(mean=mean, std=std)", None),
    "02_reparameterization_trick kl-explorer-live": ("areas(shift=shift, log_ratio=log_ratio)", None),
    "03_vrnn_cell z-pad": ("said(z)", [("z", "(-2.5, -3.0)"), ("z", "(0.5, 0.0)")]),
    "03_vrnn_cell microscope-live": (
        "plots.microscope(trace(model, sentence), position=position)",
        [("position", "9"), ("sentence", "3 * sentence"), ("position", "100"), ("sentence", "'To be'")],
    ),
    "04_training chart": ("draw(records)", None),
    "05_generation slider-code": (
        {name: GENERATED.format(name) for name in ("VRNN", "CharRNN")},
        [
            ("temperature", "0.3"),
            ("prior_temperature", "2.5"),
            ("prime", r"'\\nRoméo:'"),
            ("seed", "7"),
            ("VRNN", "[*CHOICES['VRNN'].values()][2]"),
            ("CharRNN", "PATHS['RNN, same width']"),
            ("VRNN_path", "str(PATHS['RNN, same width'])"),
            ("CharRNN_path", "str(PATHS['VRNN'])"),
            ("VRNN", "widgets.OWN"),
            ("CharRNN", "widgets.OWN"),
            ("VRNN_path", "str(PATHS['VRNN'])"),
            ("CharRNN_path", "str(PATHS['RNN, same count'])"),
        ],
    ),
    "06_is_the_latent_alive walk": (
        {"": "generate(vrnn, prime=passage, temperature=0.5, length=400, seed=seed, shift=x * main[0] + y * main[1])"},
        [("x", "1.5"), ("x", "-1.0"), ("y", "1.0"), ("seed", "7"), ("seed", "20")],
    ),
    "07_the_pen next-live": (
        "plots.next_places([moment(drawing, strokes)], credit=CREDIT)",
        [("strokes", "2"), ("drawing", "40"), ("strokes", "20"), ("strokes", "1")],
    ),
    "07_the_pen invented-live": (
        """widgets.drawn([to_strokes(steps) for steps in draw(models[model], 40, temperature=temperature,
        prior_temperature=deviation, seed=seed)], 8, pace=pace, credit=CREDIT)""",
        [
            ("temperature", "0.0"),
            ("temperature", "1.0"),
            ("seed", "7"),
            *(("model", f"list(models)[{i}]") for i in range(4)),
            ("model", "list(models)[1]"),
            ("deviation", "0.3"),
            ("pace", "1"),
        ],
    ),
    "07_the_pen endings-live": (
        "ended(sheet, drawing, strokes, temperature, seed)",
        [
            ("strokes", "1"),
            ("drawing", "40"),
            ("temperature", "1.0"),
            ("seed", "3"),
            ("sheet", "[[[0.2, 0.3], [0.8, 0.3]], [[0.5, 0.3], [0.5, 0.9]]]"),
            ("sheet", "[[[0.5, 0.5]]]"),
            ("sheet", "[]"),
        ],
    ),
    "07_the_pen pad": ("there(point)", [("point", "(60.0, 60.0)"), ("point", "(700.0, 400.0)")]),
    "08_bach blind": ("{name: blind[name] for name in widgets.listening.shuffled(list(blind), seed)}", None),
    "08_bach listen": (
        "notes_of_voices(composed(model, temperature=temperature, deviation=deviation, seed=seed))",
        [("temperature", "0.2"), ("deviation", "0.3"), ("seed", "7"), ("model", "'chain, RNN'")],
    ),
    "08_bach go-on-live": (
        "continued(model, piece, given, temperature, seed)",
        [("piece", "40"), ("given", "3"), ("temperature", "1.0"), ("seed", "9"), ("model", "'voices, RNN'")],
    ),
    "08_bach harmonise-live": (
        "harmony(sheet, written, piece, model, count, seed)",
        [
            ("count", "7"),
            ("seed", "9"),
            ("model", "'chain, RNN'"),
            ("written", "''"),
            ("piece", "40"),
            ("sheet", "[[[0.1, 0.5], [0.9, 0.2]]]"),
            ("sheet", "[]"),
        ],
    ),
    "08_bach walk-live": (
        "on_from(part, temperature, seed)",
        [("part", "0.3"), ("part", "1.0"), ("temperature", "1.0"), ("seed", "9")],
    ),
    "09_your_own_sequences fan-live": (
        "fan(start, temperature, model)",
        [("start", "0"), ("temperature", "0.0"), ("temperature", "2.0"), ("start", "last")]
        + [("model", f"list(futures_of)[{i}]") for i in (0, 2, 3)],
    ),
}


def run(path: Path) -> tuple[list[str], list[str]]:
    """Runs a notebook: the record of what it shows, and what its widgets show that they should not."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": path.parent}})

    def executed(cell) -> list[dict]:
        """What a cell's figures and widgets are, or what the recorder says."""
        client.execute_cell(cell, notebook.cells.index(cell))
        return [output.data[MIME] for output in cell.get("outputs", ()) if MIME in output.get("data", ())]

    def asked(source: str) -> list[dict]:
        notebook.cells.append(new_code_cell(source))
        return executed(notebook.cells[-1])

    cells, lines, wrong = list(notebook.cells), [], []
    missing = {name for name in WIDGETS if name.startswith(path.stem)}
    client.reset_execution_trackers()
    with client.setup_kernel(env=os.environ | {"PYTHONHASHSEED": "0"}):  # sets keep their order
        asked(f"import sys; sys.path.insert(0, {str(HERE)!r}); import kernel_recorder; kernel_recorder.install()")
        asked("del sys.path[0], sys")
        for cell, results in [(cell, executed(cell)) for cell in cells]:
            for result in results:
                for figure in result["figures"]:
                    lines += ["", f"## {cell.id}", *figure]
                for number in result["widgets"]:
                    name = f"{path.stem} {cell.id}"
                    if name not in missing:
                        wrong.append(f"{name}: WIDGETS does not say what this widget is to show, or not twice")
                        continue
                    missing.remove(name)
                    (moved,) = asked(f"kernel_recorder.exercise({number}, *{WIDGETS[name]!r})")
                    lines += ["", f"## {cell.id}", *moved["lines"]]
                    wrong += [f"{name}: {fault}" for fault in moved["wrong"]]
    return lines[1:], wrong + [f"{name}: there is no such widget" for name in sorted(missing)]


def record_of(path: Path) -> Path:
    return HERE / "figures" / f"{path.stem}.txt"


def alike(one: str, other: str) -> bool:
    """Strings and counts are the same, and each number is as close as UNITS allows."""

    def parted(line):
        return TOKEN.split(line)

    def value(token):
        digits, _, exponent = token.partition("e")
        return float(token), 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))

    for a, b in itertools.zip_longest(parted(one), parted(other)):
        if a != b:
            if None in (a, b) or a.startswith('"') or not (TOKEN.fullmatch(a) and TOKEN.fullmatch(b)):
                return False
            (a, unit), (b, other_unit) = value(a), value(b)
            if abs(a - b) > (UNITS + 0.01) * max(unit, other_unit):
                return False
    return True


def settled(record: list[str], lines: list[str]) -> list[str]:
    """The new lines, but those of the record where they are close enough."""
    lines = list(lines)
    frames = [
        [TOKEN.sub(lambda token: token[0] if token[0][0] == '"' else "#", line) for line in each]
        for each in (record, lines)
    ]
    for old, new, size in difflib.SequenceMatcher(None, *frames, autojunk=False).get_matching_blocks():
        for i in range(size):
            if alike(record[old + i], lines[new + i]):
                lines[new + i] = record[old + i]
    return lines


def changes(path: Path) -> tuple[list[str], str, list[str]]:
    """What a chapter shows now, how that differs from its record, and what its widgets show that they should not."""
    lines, wrong = run(path)
    record = record_of(path).read_text().splitlines() if record_of(path).exists() else []
    lines = settled(record, lines)
    name = record_of(path).relative_to(HERE.parent)
    return (
        lines,
        "\n".join(difflib.unified_diff(record, lines, f"{name}, recorded", f"{path.name}, now", n=4, lineterm="")),
        wrong,
    )


def main(*names: str) -> int:
    paths, faults = [path for path in CHAPTERS if path.name.startswith(names or "")], 0
    with ProcessPoolExecutor(2) as pool:
        for path, (lines, difference, wrong) in zip(paths, pool.map(changes, paths)):
            print(difference or f"{path.name} shows what is recorded", *wrong, sep="\n", flush=True)
            record_of(path).write_text("\n".join(lines) + "\n")
            faults += len(wrong)
    return min(faults, 1)


if __name__ == "__main__":
    outlines.write()
    sys.exit(main(*sys.argv[1:]))
