"""The exercises' checks: `exercises.check("2.1", answer)` calls `check_2_1` of chapter_2.py on the reader's function.

A check calls the answer, asserts what must hold, each time with a sentence that says what is wrong, and returns one
sentence on what a right answer shows. Its docstring says what the answer takes and gives; a reader whose answer gives
something that the check cannot even look at is told that sentence.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from types import CodeType, TracebackType

import torch


class NotAttempted(Exception):
    """The answer is still the stub that the notebook came with."""


class WrongAnswer(AssertionError):
    """Says in one sentence what is wrong; a notebook shows that alone, since a traceback would print the solution."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows in place of a traceback."""
        return [str(self)]


def check(name: str, answer: Callable) -> None:
    """Prints whether `answer` solves exercise `name`: "2.1" is the first of chapter 2. A stub or ... is no attempt.

    Raises WrongAnswer for a wrong answer, what the answer itself raises as if no check stood in between, and ValueError
    for a name that no exercise has.
    """
    __tracebackhide__ = True  # IPython and pytest then leave this frame out
    result = None

    def attempt(*arguments):
        nonlocal result
        result = answer(*arguments)
        if isinstance(result, Iterator):
            result = list(islice(result, 1000))  # what a generator raises, it raises here; it may have no end
        if result is ... or (result is None and _is_stub(answer)):
            raise NotAttempted
        assert result is not None, "the function gives back None: is its return missing?"
        return result

    chapter, _, number = str(name).partition(".")
    try:
        checker = getattr(import_module(f".chapter_{chapter}", __name__), f"check_{chapter}_{number}")
    except (ModuleNotFoundError, AttributeError):
        raise ValueError(f"there is no exercise {name!r}; they are called as in {'2.1'!r}.") from None
    verdict, raised = "not attempted", None
    try:
        verdict = f"right. {checker(attempt)}"
    except NotAttempted:
        pass
    except BaseException as error:
        raised = error  # and raised again below: in this block it would become the context of what is shown
    if raised is None:
        print(f"Exercise {name}: {verdict}")
    elif (own := _below(raised.__traceback__, attempt.__code__)) or isinstance(raised, KeyboardInterrupt):
        raise raised.with_traceback(own)
    elif isinstance(raised, AssertionError):
        raise WrongAnswer(f"Exercise {name}: {raised}")
    else:
        asked = " ".join(checker.__doc__.split())
        raise WrongAnswer(f"Exercise {name}: {_form(result)}, which is not what is asked for: {asked}")


def _is_stub(answer: Callable) -> bool:
    """Whether the function has no statement but `...`."""

    def stub(): ...

    return hasattr(answer, "__code__") and answer.__code__.co_code == stub.__code__.co_code


def _below(traceback: TracebackType | None, attempt: CodeType) -> TracebackType | None:
    """The frames that `attempt` called, or None if what failed is the check: it may lie below, called by torch.

    A frame of a check that hides itself only passes on what torch and the answer do, and is left out.
    """
    below = last = None
    while traceback is not None:
        frame, following = traceback.tb_frame, traceback.tb_next
        if frame.f_code is attempt:
            below = following
        elif frame.f_globals["__name__"].startswith(f"{__name__}."):
            if last is not None and frame.f_locals.get("__tracebackhide__"):
                last.tb_next = following
                traceback = following
                continue
            below = None
        last, traceback = traceback, following
    return below


def _form(result) -> str:
    if result is None:
        return "the function fails before it gives anything back"
    if isinstance(result, torch.Tensor):
        return f"a tensor of shape {tuple(result.shape)} came back"
    if isinstance(result, tuple | list):
        return f"a {type(result).__name__} of {len(result)} came back"
    return f"a {type(result).__name__} came back"
