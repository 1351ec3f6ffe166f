"""Tests of corpora/piano_rolls.py: the published forms are read, and a stranger's pickle runs nothing."""

import gzip
import json
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from vrnn_tutorial.corpora.piano_rolls import piano_rolls

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
#: MIDI numbers; one frame is silent, one has the ends of the keyboard.
SETS = {
    "train": [[(60, 64, 67), (), (21, 108)], [(59,)]],
    "valid": [[(40,), (41,)]],
    "test": [[(62, 65)], [(70,), (71,), (72,)]],
}
ROLLS = {
    "train": [[[39, 43, 46], [], [0, 87]], [[38]]],
    "validation": [[[19], [20]]],
    "test": [[[41, 44]], [[49], [50], [51]]],
}


def columns_of(parts):
    """Of each piece the columns that sound, frame by frame."""
    for piece in [roll for part in parts for roll in part]:
        assert piece.dtype == torch.float32 and piece.shape[1:] == (88,) and set(piece.unique().tolist()) <= {0, 1}
    return {
        name: [[frame.nonzero().flatten().tolist() for frame in roll] for roll in part]
        for name, part in parts._asdict().items()
    }


def frames_as(frame_of, **others):
    return {name: [[frame_of(frame) for frame in piece] for piece in part] for name, part in SETS.items()} | others


@pytest.fixture
def write(tmp_path):
    def written(content, name="set.pickle"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return written


# The published forms

FORMS = {
    "tuples": tuple,
    "lists": list,
    "numbers": lambda frame: tuple(np.int64(note) for note in frame),
    "arrays": lambda frame: np.array(frame, dtype=np.int64),
    "arrays-big-endian": lambda frame: np.array(frame, dtype=">i2"),
    "arrays-of-bytes": lambda frame: np.array(frame, dtype=np.uint8),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("form", FORMS)
def test_a_pickle_of_midi_numbers_is_read(write, protocol, form):
    content = frames_as(FORMS[form], train_mean=np.linspace(0, 1, 88))
    assert columns_of(piano_rolls(write(pickle.dumps(content, protocol)))) == ROLLS


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_piece_may_be_an_array_in_either_order(write, protocol, order):
    piece = np.array([[60, 64], [62, 65], [21, 108]], order=order)
    parts = piano_rolls(write(pickle.dumps({"train": [piece], "valid": [piece], "test": [piece]}, protocol)))
    assert columns_of(parts)["train"] == [[[39, 43], [41, 44], [0, 87]]]


# As Python 2 wrote them, where text was bytes: protocol 0, and protocol 2 with a number and an array of its NumPy.
OLD = b"(dp1\nS'train'\np2\n(lp3\n(lp4\n(I60\nI64\ntp5\na(tp6\naasS'valid'\np7\ng3\nsS'test'\np8\ng3\ns."
DTYPE = b"cnumpy\ndtype\nU\x02%sK\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
SCALAR = b"cnumpy.core.multiarray\nscalar\n" + DTYPE % b"i8" + b"U\x08<\0\0\0\0\0\0\0\x86R"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85%s\x89U\x08%stb"
INTEGERS = ARRAY % (DTYPE % b"i4", b"<\0\0\0\x40\0\0\0")
FLOATS = ARRAY % (DTYPE % b"f4", b"\xcd\xcc\x8c\x3f\xcd\xcc\x0c\x40")  # no text in ASCII
FRAMES = b"]](" + SCALAR + b"\x85" + INTEGERS + b"e"
OLDER = b"\x80\x02}(U\x05train]" + FRAMES[1:] + b"aU\x05valid]" + FRAMES[1:] + b"aU\x04test]" + FRAMES[1:] + b"a"


def test_pickles_of_python_2_are_read(write):
    assert columns_of(piano_rolls(write(OLD)))["test"] == [[[39, 43], []]]
    content = OLDER + b"U\ntrain_mean" + FLOATS + b"u."
    with warnings.catch_warnings(action="ignore"):  # NumPy says that this is old
        unpickled = pickle.loads(content, encoding="latin1")
    assert unpickled["train"][0][0] == (60,) and unpickled["train_mean"][1] == np.float32(2.2)
    assert columns_of(piano_rolls(write(content)))["train"] == [[[39], [39, 43]]]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_json_has_columns(write, compress):
    content = json.dumps({"train": ROLLS["train"], "valid": ROLLS["validation"], "test": ROLLS["test"]}, indent=1)
    assert columns_of(piano_rolls(write(compress(b" \n" + content.encode())))) == ROLLS


def test_a_compressed_pickle_is_read(write):
    assert columns_of(piano_rolls(str(write(gzip.compress(pickle.dumps(SETS)))))) == ROLLS


def test_the_published_set_has_its_pieces_and_frames():
    place = os.environ.get("JSB_CHORALES_REFERENCE")
    if not place:
        pytest.skip("JSB_CHORALES_REFERENCE is not set")
    parts = piano_rolls(place)
    assert [(len(part), sum(map(len, part))) for part in parts] == [(229, 13807), (76, 4602), (77, 4725)]


# What is no such file


def refused(path):
    with pytest.raises(ValueError) as error:
        piano_rolls(path)
    assert str(error.value).startswith(f"{path} ") and "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path} ")


@pytest.mark.parametrize(("note", "low", "high"), [(20, 21, 108), (109, 21, 108), (-1, 21, 108), (0, 21, 108)])
@pytest.mark.parametrize("number", [int, np.int64])
def test_a_note_that_no_piano_has_is_told_with_its_place(write, note, low, high, number):
    content = SETS | {"valid": [[(60,)], [(60,), (61, number(note))]]}
    sentence = f"has the note {note} in valid[1][1]: those of a piano go from {low} to {high} in such a file"
    for protocol in PROTOCOLS:
        assert refused(write(pickle.dumps(content, protocol))) == sentence


@pytest.mark.parametrize("column", [-1, 88])
def test_so_is_a_column_of_a_json(write, column):
    content = {"train": [[[0]]], "valid": [[[0], [87, column]]], "test": [[[0]]]}
    sentence = f"has the note {column} in valid[0][1]: those of a piano go from 0 to 87 in such a file"
    assert refused(write(json.dumps(content).encode())) == sentence


def test_a_piece_without_frames_and_a_part_without_pieces_are_told(write):
    assert refused(write(pickle.dumps(SETS | {"train": [[(60,)], []]}))) == "has no frames in train[1]"
    assert refused(write(pickle.dumps(SETS | {"test": []}))) == "has no pieces in 'test'"


NOT = 'is not a JSON or pickle of a dict whose "train", "valid" and "test" are lists of lists of lists of notes'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk",
        b"{",
        b'{"train": [[[1]]], "valid": [[[1]]]}',
        b"[[[1]]]",
        b'{"train": [[[1.5]]], "valid": [[[1]]], "test": [[[1]]]}',
        b'{"train": [[["C4"]]], "valid": [[[1]]], "test": [[[1]]]}',
        b'{"train": [[1]], "valid": [[[1]]], "test": [[[1]]]}',
        b'{"train": 7, "valid": [[[1]]], "test": [[[1]]]}',
        gzip.compress(b'{"train": [[[1]]]}', mtime=0),
        gzip.compress(pickle.dumps(SETS), mtime=0)[:-12],
        pickle.dumps(SETS)[:-5],
        pickle.dumps([1, 2]),
        pickle.dumps("train"),
        (OLDER + b"u.").replace(b"K\x02\x85cnumpy", b"K\x7f\x85cnumpy"),  # an array larger than what is in it
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
)
def test_a_file_of_another_kind_is_told_so(write, content):
    assert refused(write(content)) == NOT


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        piano_rolls(tmp_path / "none.pickle")


# A pickle that wants more than numbers

CALLED = []


def called(*arguments):
    CALLED.append(arguments)
    return ()


class Calls:
    """Pickled as a call of the function above."""

    def __reduce__(self):
        return called, ()


PLACES = {
    "file": lambda evil: evil,
    "part": lambda evil: SETS | {"test": evil},
    "piece": lambda evil: SETS | {"train": [[(60,)], evil]},
    "frame": lambda evil: SETS | {"train": [[(60,), evil]]},
    "note": lambda evil: SETS | {"train": [[(60, evil)]]},
    "elsewhere": lambda evil: SETS | {"train_mean": evil},
    "key": lambda evil: SETS | {(evil,): 1},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_called_wherever_it_stands(write, protocol, place):
    content = pickle.dumps(PLACES[place](Calls()), protocol)
    CALLED.clear()
    pickle.loads(content)
    assert CALLED == [()]  # the call is real
    sentence = f"asks for '{__name__}.called', of which piano rolls have no need: nothing was called"
    assert refused(write(content)) == sentence and CALLED == [()]


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'true'\no.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R.", "builtins.eval"),
        (b"\x80\x02c__builtin__\neval\nX\x01\0\0\x001\x85R.", "__builtin__.eval"),
        (b"\x80\x02ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0ddtype.__new__\x93.", "numpy.dtype.__new__"),
        (b"\x80\x02cnumpy._core.multiarray\n_load_from_filelike\n.", "numpy._core.multiarray._load_from_filelike"),
        (b"\x80\x02cscipy.sparse._csr\ncsr_matrix\n.", "scipy.sparse._csr.csr_matrix"),
        (b"\x80\x04\x8c\x02os\x8c\x07sys\ntem\x93.", "os.sys\ntem"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.", "torch._utils._rebuild_tensor_v2"),
    ],
)
def test_whatever_it_asks_for_is_named(write, content, asked):
    assert refused(write(content)) == f"asks for {asked!r}, of which piano rolls have no need: nothing was called"


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cnumpy\ndtype\n}X\x05\0\0\0stateK\x01sb.",  # a state for the class itself
        b"\x80\x02cnumpy\nndarray\nN}X\x08\0\0\0__init__K\x01s\x86b.",  # its attributes
        b"\x80\x02cnumpy\nndarray\n)\x81.",  # an object of the class
        b"\x80\x02X\x01\0\0\x00aQ.",  # a persistent object
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.",
        OLDER.replace(b"U\x08<\0\0\0\x40\0\0\0", b"N") + b"u.",  # an array of no content
    ],
)
def test_what_describes_arrays_cannot_be_turned_into_something_else(write, content):
    assert refused(write(content)) == NOT
    content = frames_as(FORMS["arrays"])
    assert columns_of(piano_rolls(write(pickle.dumps(content)))) == ROLLS  # as before


@pytest.mark.parametrize(
    ("code", "order", "told"),
    [
        (b"O8", b"<", "object"),
        (b"i8,O", b"<", "[('f0', '<i8'), ('f1', 'O')]"),
        (b"i8", b"O,", "[('f0', 'O'), ('f1', '<i8')]"),
        (b"f8", b"<", "float64"),
        (b"U2", b"<", "<U2"),
    ],
)
def test_an_array_is_one_of_whole_numbers(write, code, order, told):
    """NumPy makes an array of objects out of bytes, which would be their addresses; here they are zero, to be safe."""
    described = (DTYPE % code).replace(b"U\x02" + code, b"U" + bytes([len(code)]) + code)
    described = described.replace(b"U\x01<", b"U" + bytes([len(order)]) + order)
    array = (ARRAY % (described, bytes(8))).replace(b"K\x02\x85", b"K\x01\x85")
    content = OLDER.replace(FRAMES[1:], b"](" + array + b"e") + b"u."
    assert refused(write(content)) == f"has an array of type {told!r}, where only whole numbers are notes"


def test_numbers_that_are_not_whole_are_refused_in_pickles_too(write):
    floats = frames_as(lambda frame: np.array(frame, dtype=float))
    for protocol in PROTOCOLS:
        sentence = "has an array of type 'float64', where only whole numbers are notes"
        assert refused(write(pickle.dumps(floats, protocol))) == sentence


def test_what_is_read_needs_no_import(write, monkeypatch):
    """Not of the module that a pickle names, either, which would run it."""
    Path(write(b"").parent / "stranger.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(write(b"").parent)
    assert refused(write(b"cstranger\nscalar\n.")).startswith("asks for 'stranger.scalar',")
