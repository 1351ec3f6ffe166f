"""Refuses an older Python before pip looks at anything else: it would name some package as the trouble."""

import platform
import sys

from setuptools import setup

if sys.version_info < (3, 11):  # noqa: UP036 (requires-python is looked at later)
    raise SystemExit(f"Python 3.11 or newer is needed, but this is {platform.python_version()}.")
setup()
