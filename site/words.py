"""Writes words.txt, the words of the training text, of which the page generation.html counts the share.

python site/words.py
"""

from pathlib import Path

from vrnn_tutorial import shakespeare
from vrnn_tutorial.text import decode
from vrnn_tutorial.text_statistics import words


def known() -> str:
    """A word a line, in order."""
    return "\n".join(sorted(set(words(decode(shakespeare().train)))))


if __name__ == "__main__":
    Path(__file__).with_name("words.txt").write_text(known(), encoding="ascii")
