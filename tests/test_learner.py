"""Training by several processes: they learn what one would have learned; and if one is killed, nothing is lost."""

import os
import subprocess
import sys

import pytest
import several_processes
import torch
from several_processes import CASES, SMALL, trained, updates_of

from vrnn_tutorial import learner
from vrnn_tutorial.__main__ import main

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


GONE = "another process of this training has ended; what its folder keeps can be resumed"


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """What each of two processes had of every case."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [*TORCHRUN, several_processes.__file__, str(folder)]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, timeout=300)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_would(by_two, name):
    (records, weights), *shared = trained(name), *(found[name] for found in by_two)
    for theirs, their_weights in shared:
        # Losses of all columns and the gradient's norm; every process has them.
        assert len(theirs) == len(records) == 5
        for record, their in zip(records, theirs, strict=True):
            assert their[:4] == pytest.approx(record[:4], rel=1e-10, abs=1e-10)
        for key, weight in weights.items():
            torch.testing.assert_close(their_weights[key], weight, rtol=0, atol=1e-10)
    (first, _), (other, _) = shared
    for record, ours, theirs in zip(records, first, other, strict=True):
        assert (ours.validation is None) == (record.validation is None) and theirs.validation is None
        if record.validation is not None:
            assert ours.validation == pytest.approx(record.validation, abs=1e-10)


def test_each_process_hides_shares_of_its_own(by_two):
    first, other = (found["hidden"] for found in by_two)
    assert first.shape == other.shape == (20, 1) and not torch.equal(first, other)


def test_a_batch_of_fewer_sequences_than_processes_is_refused(by_two):
    sentence = "a batch of 1 sequences cannot be shared among 2 processes."
    assert [found["refused"] for found in by_two] == [sentence, sentence]


def test_a_process_that_is_killed_ends_the_training_which_can_go_on(tmp_path, capsys):
    out = tmp_path / "run"
    out.with_suffix(".txt").write_text("the cat sat on the mat. " * 200)
    command = [*TORCHRUN, several_processes.__file__, str(out), "killed"]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    # Whichever comes first: the other's end, or torchrun's SIGTERM, which follows on it.
    sentences = [line for line in ended.stderr.splitlines() if line.startswith(("error:", "stopped"))]
    assert sentences in ([f"error: {GONE}"], ["stopped; what was learned is kept"])
    assert ended.stdout.count("update 5:") == 1  # one process tells
    before = updates_of(out)
    text = ["--text", str(out.with_suffix(".txt"))]
    assert main(["train", *SMALL, *text, "--out", str(out), "--resume", "--updates", str(before + 5)]) == 0
    assert f"update {before + 5}:" in capsys.readouterr().out
    assert updates_of(out) == before + 5


def test_the_end_of_another_process_is_told_in_a_sentence_and_nothing_else_is():
    closed = "[/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:3917"
    with pytest.raises(ConnectionError, match=GONE), learner._together():
        raise RuntimeError(closed)
    with pytest.raises(RuntimeError, match="out of memory"), learner._together():
        raise RuntimeError("out of memory")
