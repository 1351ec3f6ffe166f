"""Each chapter is run once more: its figures show what is recorded, its widgets what their controls say."""

import pytest
from chapters import CHAPTERS
from nbclient.exceptions import CellExecutionError
from records import changes


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_figures_and_widgets_show_what_is_recorded(path):
    try:
        _, difference, wrong = changes(path)
    except CellExecutionError as error:
        if error.ename != "AssertionError":
            raise
        pytest.fail(f"{path.name} does not bear out what it asserts:\n{error}")
    assert not wrong, "a widget shows another thing than its controls say:\n" + "\n".join(wrong)
    assert not difference, (
        f"{path.name} shows another thing than is recorded. If it is right so, `make records` records it anew;\n"
        f"read the difference first:\n{difference}"
    )
