"""Tests of corpora/chorales.py, on small scores; the fixture `corpus` may need a network, if its file is missing."""

import hashlib
import io
import itertools
import json
import re
import zipfile

import pytest
import safetensors.torch
import torch
from chapters import ROOT

from vrnn_tutorial.corpora import chorales as recipe
from vrnn_tutorial.corpora import wheels
from vrnn_tutorial.corpora.chorales import CODES, HELD, RESTS, VOICES, Voice, chorales, pitches_of, roll_of
from vrnn_tutorial.corpora.piano_rolls import Parts
from vrnn_tutorial.files import FOLDER

README = (FOLDER / "README.md").read_text(encoding="utf-8")
SOURCE = json.loads(wheels.SOURCES.read_text(encoding="utf-8"))["chorales"]


# Scores written by hand


def note(pitch, duration, more=""):
    """A note such as "C4" or "F#5", or "rest". more: what else stands in it."""
    if pitch == "rest":
        return f"<note><rest/><duration>{duration}</duration></note>"
    step, sign, octave = re.fullmatch("([A-G])([#b]?)(.)", pitch).groups()
    alter = {"": "", "#": "<alter>1</alter>", "b": "<alter>-1</alter>"}[sign]
    pitch = f"<pitch><step>{step}</step>{alter}<octave>{octave}</octave></pitch>"
    return f"<note>{pitch}<duration>{duration}</duration>{more}</note>"


def chord(pitch, duration):
    return note(pitch, duration).replace("<note>", "<note><chord/>")


def tied(pitch, duration, kind):
    return note(pitch, duration, f'<tie type="{kind}"/>')


def divisions(number):
    return f"<attributes><divisions>{number}</divisions></attributes>"


def part(*bars):
    return "<part>" + "".join(f"<measure>{bar}</measure>" for bar in bars) + "</part>"


def mxl(*parts, path="score.xml", namespace=""):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a-first-file.xml", "<nothing/>")
        files = f'<rootfiles><rootfile full-path="{path}"/><rootfile full-path="page.pdf"/></rootfiles>'
        archive.writestr("META-INF/container.xml", f"<container{namespace}>{files}</container>")
        archive.writestr(path, f"<score-partwise>{''.join(parts)}</score-partwise>")
    return content.getvalue()


def notes(*parts):
    """Of each part the notes as (MIDI number, beginning, end)."""
    return [[tuple(map(float, each)) for each in voice] for voice in recipe._notes(recipe._score(mxl(*parts)))]


def sampled(*parts):
    """Of each part what sounds in each frame: a MIDI number, "held", or 0."""
    pitches, held = recipe._frames(recipe._notes(recipe._score(mxl(*parts))))
    frames = [["held" if h else p for p, h in zip(*row)] for row in zip(pitches.tolist(), held.tolist())]
    return [list(voice) for voice in zip(*frames)]


def test_steps_signs_and_octaves_make_midi_numbers():
    scale = [note(pitch, 1) for pitch in ("C4", "C#4", "Db4", "A4", "B3", "Cb4", "A0", "C8")]
    assert [pitch for pitch, _, _ in notes(part("".join(scale)))[0]] == [60, 61, 61, 69, 59, 59, 21, 108]


def test_a_tied_note_is_held_and_a_repeated_one_is_struck_again():
    bars = part(note("C4", 1) + tied("G4", 1, "start"), tied("G4", 2, "stop") + note("G4", 1))
    assert notes(bars) == [[(60, 0, 1), (67, 1, 4), (67, 4, 5)]]
    assert sampled(bars) == [[60, 67, "held", "held", 67]]


def test_a_tie_may_go_over_several_bars_and_one_that_comes_from_nowhere_is_a_note():
    through = '<tie type="stop"/><tie type="start"/>'
    assert notes(part(tied("C4", 4, "start"), note("C4", 4, through), tied("C4", 2, "stop"))) == [[(60, 0, 10)]]
    assert notes(part(note("C4", 1) + tied("D4", 1, "stop"))) == [[(60, 0, 1), (62, 1, 2)]]
    assert notes(part(note("C4", 1) + note("D4", 1) + tied("C4", 1, "stop"))) == [[(60, 0, 1), (62, 1, 2), (60, 2, 3)]]


def test_a_chord_begins_together_and_its_highest_note_stands_for_it():
    bars = part(note("C4", 2) + chord("G4", 2) + chord("E4", 2) + note("D4", 1))
    assert notes(bars) == [[(60, 0, 2), (64, 0, 2), (67, 0, 2), (62, 2, 3)]]
    assert sampled(bars) == [[67, "held", 62]]


def test_rests_are_silent():
    assert sampled(part(note("C4", 1) + note("rest", 2) + note("C4", 1)), part(note("C3", 4))) == [
        [60, 0, 0, 60],
        [48, "held", "held", "held"],
    ]


def test_divisions_may_change_in_each_part_by_itself():
    first = part(divisions(2) + note("C4", 2) + divisions(10) + note("D4", 10), note("E4", 20))
    second = part(divisions(4) + note("C3", 8), divisions(3) + note("D3", 3) + note("E3", 3))
    assert notes(first, second) == [
        [(60, 0, 1), (62, 1, 2), (64, 2, 4)],
        [(48, 0, 2), (50, 2, 3), (52, 3, 4)],
    ]


def test_a_pickup_bar_is_as_long_as_what_is_in_it():
    assert notes(part(note("G4", 1), note("C5", 4), note("D5", 3))) == [[(67, 0, 1), (72, 1, 5), (74, 5, 8)]]


@pytest.mark.parametrize("order", [1, -1])
def test_a_bar_begins_in_all_parts_where_the_longest_before_it_ends(order):
    parts = [part(note("C4", 4), note("D4", 4)), part(note("C3", 1), note("D3", 4))]
    assert notes(*parts[::order])[::order] == [[(60, 0, 4), (62, 4, 8)], [(48, 0, 1), (50, 4, 8)]]


def test_backup_and_forward_move_through_the_bar():
    bar = note("C5", 4) + "<backup><duration>3</duration></backup>" + note("C4", 1)
    bar += "<forward><duration>1</duration></forward>" + note("E4", 1)
    bars = part(bar, "<forward><duration>2</duration></forward>" + note("D4", 2))
    assert notes(bars) == [[(72, 0, 4), (60, 1, 2), (64, 3, 4), (62, 6, 8)]]
    # The note that began last is heard; the long one below it is struck again.
    assert sampled(bars) == [[72, 60, 72, 64, 0, 0, 62, "held"]]


def test_a_bar_ends_where_its_longest_voice_does():
    bar = note("C5", 4) + "<backup><duration>4</duration></backup>" + note("C4", 1)
    assert notes(part(bar, note("D4", 1))) == [[(60, 0, 1), (72, 0, 4), (62, 4, 5)]]


def test_a_grace_note_takes_no_time():
    grace = "<note><grace/><pitch><step>B</step><octave>4</octave></pitch></note>"
    assert notes(part(grace + note("A4", 1) + grace + note("G4", 1))) == [[(69, 0, 1), (67, 1, 2)]]


def test_a_frame_has_what_sounds_as_it_begins():
    eighths = divisions(2) + note("C4", 1) + note("D4", 3) + note("E4", 1) + note("F4", 1) + note("G4", 2)
    assert sampled(part(eighths)) == [[60, 62, 64, 67]]
    assert sampled(part(divisions(2) + note("C4", 1) + note("D4", 5))) == [[60, 62, "held"]]


def test_there_are_no_frames_before_the_first_note_and_after_the_last():
    bars = "<forward><duration>1</duration></forward>" + note("C4", 1) + note("rest", 1) + note("D4", 1)
    rest = "<forward><duration>3</duration></forward>"
    assert sampled(part(note("rest", 4), bars, rest), part(note("rest", 4), note("rest", 4), rest)) == [
        [60, 0, 62],
        [0, 0, 0],
    ]


@pytest.mark.parametrize("path", ["score.xml", "folder/score.musicxml"])
@pytest.mark.parametrize("namespace", ["", ' xmlns="urn:oasis:names:tc:opendocument:xmlns:container"'])
def test_the_container_says_where_the_score_lies(path, namespace):
    score = recipe._score(mxl(part(note("C4", 1)), path=path, namespace=namespace))
    assert [pitch.findtext("step") for pitch in score.iter("pitch")] == ["C"]


# A voice's codes

ALTO = Voice("alto", 60, 64)


def test_codes_are_rests_held_and_the_notes_of_the_range():
    pitches = torch.tensor([0, 60, 60, 60, 64, 0, 64])
    held = torch.tensor([0, 0, 1, 0, 0, 0, 0]).bool()
    codes = ALTO.encode(pitches, held)
    assert codes.tolist() == [RESTS, 2, HELD, 2, 6, RESTS, 6] and codes.dtype == torch.int64
    assert torch.equal(ALTO.decode(codes), pitches)
    assert ALTO.codes == 7


def test_what_was_never_begun_is_held_as_a_rest():
    assert ALTO.decode(torch.tensor([HELD, 3, HELD, RESTS, HELD, HELD])).tolist() == [0, 61, 61, 0, 0, 0]


@pytest.mark.parametrize(
    ("pitches", "held", "sentence"),
    [
        ([], [], "the alto has no frames"),
        ([60, 65], [0, 0], "the alto has the note 65 in frame 1; its notes go from 60 to 64, and 0 is a rest"),
        ([59], [0], "the alto has the note 59 in frame 0; its notes go from 60 to 64, and 0 is a rest"),
        ([60, 61, 60], [0, 0, 1], "the alto holds a note in frame 2 that does not sound in the frame before"),
        ([60, 61, 60], [1, 0, 0], "the alto holds a note in frame 0 that does not sound in the frame before"),
        ([0, 0], [0, 1], "the alto holds a note in frame 1 that does not sound in the frame before"),
    ],
)
def test_a_melody_that_the_voice_cannot_sing_is_refused_in_one_sentence(pitches, held, sentence):
    with pytest.raises(ValueError) as error:
        ALTO.encode(torch.tensor(pitches, dtype=torch.int64), torch.tensor(held).bool())
    assert str(error.value) == sentence


def test_codes_above_the_range_are_the_notes_that_follow():
    assert ALTO.decode(torch.tensor([6, 7, HELD, CODES - 1])).tolist() == [64, 65, 65, 60 + CODES - 3]
    assert CODES == 31


@pytest.mark.parametrize("code", [-1, 31])
def test_other_codes_are_refused_in_one_sentence(code):
    with pytest.raises(ValueError) as error:
        ALTO.decode(torch.tensor([2, code]))
    assert str(error.value) == f"the alto has the code {code} in frame 1; codes go from 0 to 30"


# Melodies

TUNE = [67, 69, 71, 67, 72, 74, 76, 72, 71, 69, 74, 72, 67, 64, 65, 67, 60, 62, 64]
OTHER = [60, 64, 62, 65, 64, 69, 67, 72, 71, 66, 67, 60, 65, 64, 69, 62, 60, 62, 60]


def together(first, second, beats=None):
    """Whether two melodies come into one group. beats: those of the second on its beats, if not all."""
    prints = {"first": recipe._fingerprints(first, first), "second": recipe._fingerprints(second, beats or second)}
    return len(recipe._groups(prints)) == 1


@pytest.mark.parametrize("semitones", [-12, -5, 1, 7])
def test_a_transposed_melody_counts_as_the_same(semitones):
    assert together(TUNE, [note + semitones for note in TUNE])
    assert not together(TUNE, [note + semitones for note in OTHER])


def test_repeated_notes_other_rhythms_and_passing_notes_leave_a_melody_what_it_is():
    assert together(TUNE, [note for note in TUNE for _ in range(3)])
    passing = [between for a, b in itertools.pairwise([*TUNE, 60]) for between in (a, (a + b) // 2 + 12)]
    assert together(TUNE, passing, beats=TUNE)
    assert not together(TUNE, passing)  # it is the beats that tell
    syncopated = [note for note in TUNE for _ in range(2)][1::3]
    assert together(TUNE, TUNE, beats=syncopated)


def test_the_same_beginning_or_a_long_common_stretch_makes_two_melodies_one():
    assert together([*TUNE[:9], *OTHER], [*TUNE[:9], 50, *TUNE])
    assert not together([*TUNE[:8], *OTHER], [*TUNE[:8], 50, 45, 57])
    assert together([50, 41, *TUNE[:13]], [90, 91, 80, *TUNE[:13], 40])  # 12 steps on the beats
    assert not together([50, 41, *TUNE[:12]], [90, 91, 80, *TUNE[:12], 40])
    assert together([50, 41, *TUNE[:15]], [90, 91, 80, *TUNE[:15], 40], beats=OTHER)  # 14 off them
    assert not together([50, 41, *TUNE[:14]], [90, 91, 80, *TUNE[:14], 40], beats=OTHER)


def test_what_is_related_to_one_of_a_group_is_in_it():
    prints = {"a": {(1,), (5,)}, "b": {(2,)}, "c": {(3,)}, "d": {(1,), (3,)}, "e": {(4,), (2,)}, "f": {(5,)}}
    assert sorted(map(sorted, recipe._groups(prints))) == [["a", "c", "d", "f"], ["b", "e"]]


def test_groups_stay_whole_and_where_they_go_does_not_depend_on_their_order():
    groups = [[f"bwv{i}.{j}" for j in range(i % 7 + 1)] for i in range(200)]
    parts = recipe._split(groups)
    # A part ends with the group that fills it, of which each has 7 names at most: 555.8 and 674.9 of the 794 names.
    train, chosen, total = itertools.accumulate(map(len, parts))
    assert 556 <= train < 563 and 675 <= chosen < 682 and total == 794
    assert sorted(itertools.chain(*parts)) == sorted(itertools.chain(*groups))
    for group in groups:
        assert [part for part in parts if set(group) & set(part)] == [part for part in parts if set(group) <= set(part)]
    names = sorted(itertools.chain(*groups))
    assert 0.6 < sum(name in parts.train for name in names[:200]) / 200 < 0.8  # not by their names themselves
    again = recipe._split([group[::-1] for group in groups[::-1]])
    assert [sorted(part) for part in again] == [sorted(part) for part in parts]


# Building the file, out of a wheel with small scores


def four(melody):
    """A score for four voices, each note a quarter; the lower voices rest or hold."""
    sung = "".join(note(pitch, 1) for pitch in melody)
    alto = note("F4", len(melody) - 1) + note("rest", 1)
    return mxl(part(sung), part(alto), part(note("C4", len(melody))), part(note("C3", len(melody))))


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel that `chorales` is told to build from, which is at hand."""
    tune = ["C5", "D5", "E5", "G5"]
    path = tmp_path / "music.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for i, step in enumerate("DEFGAB"):
            archive.writestr(f"scores/bwv6.{i}.mxl", four(["C5", f"{step}4"]))
        archive.writestr("scores/bwv1.mxl", four(tune))
        archive.writestr("scores/bwv1-transposed.mxl", four([step.replace("5", "4") for step in tune]))
        archive.writestr("scores/bwv3-five.mxl", mxl(*[part(note("C4", 1))] * 5))
        archive.writestr("others/bwv4.mxl", four(tune))
        archive.writestr("scores/bwv5.krn", "no score of this kind")
    source = {"requirement": "music==1", "wheel_sha256": "", "members": r"scores/(.+)\.mxl", "sha256": ""}
    with zipfile.ZipFile(path) as archive:
        source["sha256"] = hashlib.sha256(recipe._build(archive, source)).hexdigest()
    sources = tmp_path / "sources.json"
    sources.write_text(json.dumps({"chorales": source}))
    monkeypatch.setattr(wheels, "SOURCES", sources)
    monkeypatch.setattr(wheels, "fetch_wheel", lambda requirement, recorded, folder: path)
    return path


def test_the_scores_for_four_voices_are_built_into_one_file_and_only_read_the_second_time(
    wheel, tmp_path, monkeypatch, capsys
):
    built = chorales(tmp_path / "new")
    pieces = {piece.name: piece for part in built for piece in part}
    names = [[piece.name for piece in part] for part in built]
    assert names == [sorted(part) for part in names] and [len(part) for part in names] == [6, 1, 1]
    assert [part for part in names if "bwv1" in part] == [part for part in names if "bwv1-transposed" in part]
    assert sorted(itertools.chain(*names)) == ["bwv1", "bwv1-transposed", *(f"bwv6.{i}" for i in range(6))]
    soprano, alto, tenor, bass = VOICES
    assert pieces["bwv1"].voices.tolist() == [
        [72 - soprano.lowest + 2, 65 - alto.lowest + 2, 60 - tenor.lowest + 2, 48 - bass.lowest + 2],
        [74 - soprano.lowest + 2, HELD, HELD, HELD],
        [76 - soprano.lowest + 2, HELD, HELD, HELD],
        [79 - soprano.lowest + 2, RESTS, HELD, HELD],
    ]
    sounding = [[48, 60, 65, 72], [48, 60, 65, 74], [48, 60, 65, 76], [48, 60, 79]]
    assert [(row.nonzero().flatten() + 21).tolist() for row in pieces["bwv1"].roll] == sounding
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["chorales.safetensors"]
    assert "built" in capsys.readouterr().err

    monkeypatch.setattr(wheels, "fetch_wheel", None)
    again = chorales(tmp_path / "new")
    assert torch.equal(again.train[0].voices, built.train[0].voices) and capsys.readouterr().err == ""


def test_a_damaged_file_is_built_again(wheel, tmp_path):
    chorales(tmp_path)
    whole = (tmp_path / "chorales.safetensors").read_bytes()
    (tmp_path / "chorales.safetensors").write_bytes(whole[:-1] + b"\7")
    chorales(tmp_path)
    assert (tmp_path / "chorales.safetensors").read_bytes() == whole


def test_without_network_the_sentence_names_another_way(wheel, tmp_path, monkeypatch):
    def fails(*_):
        raise ConnectionError("pip could not fetch music==1")

    monkeypatch.setattr(wheels, "fetch_wheel", fails)
    sentence = r"pip could not fetch music==1; or read piano rolls of your own with piano_rolls\(path\)"
    with pytest.raises(ConnectionError, match=f"^{sentence}$"):
        chorales(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# The chorales themselves


@pytest.fixture(scope="module")
def corpus() -> Parts:
    return chorales()


def test_the_two_codings_say_the_same(corpus):
    """Each is read here by its definition: a code of 2 or more is a note from the voice's lowest on, 1 the last one."""
    for piece in itertools.chain(*corpus):
        assert piece.roll.shape == (len(piece.voices), 88) and piece.roll.dtype == torch.float32
        assert piece.voices.shape == (len(piece.roll), 4) and piece.voices.dtype == torch.int64
        sounding, now = [], [0, 0, 0, 0]
        for frame in piece.voices.tolist():
            for i, code in enumerate(frame):
                assert code != HELD or now[i]  # nothing is held that was not begun
                now[i] = now[i] if code == HELD else 0 if code == RESTS else VOICES[i].lowest + code - 2
            sounding.append(sorted(set(now) - {0}))
        assert [(row.nonzero().flatten() + 21).tolist() for row in piece.roll] == sounding
        assert piece.roll[0].any() and piece.roll[-1].any()


def test_no_melody_stands_in_two_parts(corpus):
    """By the soprano on the beats, since the notes between them are not kept."""
    known = {}
    for part, pieces in corpus._asdict().items():
        for piece in pieces:
            melody = [pitch for pitch in pitches_of(piece.voices)[:, 0].tolist() if pitch]
            steps = [b - a for a, b in itertools.pairwise(melody) if a != b]
            for run in [("begins", *steps[:8]), *zip(*(steps[i:] for i in range(12)))]:
                assert known.setdefault(run, part) == part, piece.name


def test_ranges_are_those_of_the_music(corpus):
    pitches = torch.cat([pitches_of(piece.voices) for piece in itertools.chain(*corpus)])
    for voice, sung in zip(VOICES, pitches.unbind(1)):
        assert (voice.lowest, voice.highest) == (sung[sung > 0].min(), sung.max())


def test_the_readme_names_the_recorded_figures(corpus):
    assert SOURCE["sha256"] in README and SOURCE["wheel_sha256"] in README
    for part, pieces in corpus._asdict().items():
        assert f"| `{part}` | {len(pieces)} | {sum(len(piece.roll) for piece in pieces):,} |" in README
    pieces = list(itertools.chain(*corpus))
    assert f"{len(pieces)} chorales, {sum(len(piece.roll) for piece in pieces):,} quarter notes" in README
    for voice in VOICES:
        assert f"| {voice.name} | {voice.lowest} to {voice.highest} | {voice.codes} |" in README


def test_the_recorded_file_is_what_is_read(corpus):
    content = safetensors.torch.load(wheels.from_wheel("chorales", "chorales.safetensors", None, recipe._build))
    assert {name: codes.dtype for name, codes in content.items()} == {
        f"{part}/{piece.name}": torch.uint8 for part, pieces in corpus._asdict().items() for piece in pieces
    }


def test_no_score_is_kept_in_the_repository():
    assert not list(ROOT.glob("**/*.mxl")) and "data/chorales.safetensors" in (ROOT / ".gitignore").read_text()


def test_a_roll_has_a_one_for_each_key_that_sounds():
    roll = roll_of(torch.tensor([[21, 108, 0, 21], [0, 0, 0, 0]]))
    assert roll.nonzero().tolist() == [[0, 0], [0, 87]] and roll.shape == (2, 88) and roll.max() == 1
