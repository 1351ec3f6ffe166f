"""For all tests: hypothesis tries the same examples in each run, however slow the machine."""

from hypothesis import settings

settings.register_profile(
    "same every time", derandomize=True, deadline=None, max_examples=25, report_multiple_bugs=False
)
settings.load_profile("same every time")
