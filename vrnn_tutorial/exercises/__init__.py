"""The exercises' checks: `exercises.check("2.1", answer)` calls `check_2_1` of chapter_2.py on the reader's function.

A check calls the answer, asserts what must hold, each time with a sentence that says what is wrong, and returns one
sentence on what a right answer shows.
"""

from collections.abc import Callable
from importlib import import_module


class NotAttempted(Exception):
    """The answer is still the stub that the notebook came with."""


def check(name: str, answer: Callable) -> None:
    """Prints whether `answer` solves exercise `name`: "2.1" is the first of chapter 2. None or ... is no attempt.

    Raises AssertionError, with a sentence that says what is wrong, for a wrong answer.
    """

    def attempt(*arguments):
        result = answer(*arguments)
        if result is None or result is ...:
            raise NotAttempted
        return result

    chapter, number = name.split(".")
    module = import_module(f".chapter_{chapter}", __name__)
    try:
        shows = getattr(module, f"check_{chapter}_{number}")(attempt)
    except NotAttempted:
        print(f"Exercise {name}: not attempted")
    else:
        print(f"Exercise {name}: right. {shows}")
