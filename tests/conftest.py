"""For all tests: hypothesis tries the same examples in each run, however slow the machine."""

import signal

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("answers")  # so that its assertions say what they compared

settings.register_profile(
    "same every time", derandomize=True, deadline=None, max_examples=25, report_multiple_bugs=False
)
settings.load_profile("same every time")


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also where the shell that started the tests has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
