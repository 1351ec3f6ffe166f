"""Tests of vrnn_tutorial/files.py: files that are whole at any moment, whoever writes them."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vrnn_tutorial.files import ABANDONED, write_atomically


def test_many_writers_at_once_never_show_half_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    path, done = tmp_path / "file", threading.Event()
    contents = [bytes([writer]) * (50_000 + writer) for writer in range(4)]
    path.write_bytes(contents[0])

    def read():
        torn = 0
        while not done.is_set():
            torn += path.read_bytes() not in contents
        return torn

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [pool.submit(lambda c: [write_atomically(path, c) for _ in range(50)], each) for each in contents]
        failures = [writer.exception() for writer in writers]
        done.set()
    assert failures == [None] * 4 and [reader.result() for reader in readers] == [0, 0]
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755])
def test_a_file_that_was_there_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_user_chose_for_new_files(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_what_killed_writers_left_does_not_pile_up(tmp_path):
    """What may still be in use stays, and so does what belongs to another file."""
    names = ".run[1].json.0a.tmp", ".run[1].json.0b.tmp", ".run1.json.0a.tmp", "run[1].json.tmp"
    for name, age in zip(names, (ABANDONED + 60, ABANDONED - 60, ABANDONED + 60, ABANDONED + 60), strict=True):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    write_atomically(tmp_path / "run[1].json", b"{}")
    assert {path.name for path in tmp_path.iterdir()} == {"run[1].json", *names[1:]}
