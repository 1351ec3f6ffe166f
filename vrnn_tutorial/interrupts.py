"""Ctrl-C and SIGTERM: what stops a training without its losing anything."""

import contextlib
import signal
import threading


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops as Ctrl-C does."""


@contextlib.contextmanager
def terminable():
    """Makes SIGTERM an exception, by which a training keeps what it learned."""

    def stop(*_):
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def uninterrupted():
    """Holds Ctrl-C back while weights, moments and history change together; SIGTERM, too, where it raises as that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    came = []
    for number in handlers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in came[:1]:
        handlers[number](number, None)
