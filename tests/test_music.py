"""Tests of music.py: what is written as MIDI is read back as the standard says, what sounds has the notes' pitches."""

import itertools
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vrnn_tutorial.corpora.chorales import HELD, RESTS, VOICES, pitches_of, roll_of
from vrnn_tutorial.music import Note, midi, notes_of_midi, notes_of_roll, notes_of_voices, pitch_of, sound


def roll(*rows):
    """Each frame by the MIDI numbers of what sounds in it."""
    frames = torch.zeros(len(rows), 88)
    for t, row in enumerate(rows):
        frames[t, [pitch - 21 for pitch in row]] = 1
    return frames


def voices_of(*columns):
    """Codes (T, 4), of which the upper voices have the given columns of MIDI numbers, "held" or 0, the others rest."""
    codes, no_note = torch.full((len(columns[0]), 4), RESTS), {"held": HELD, 0: RESTS}
    for i, column in enumerate(columns):
        for t, pitch in enumerate(column):
            codes[t, i] = no_note[pitch] if pitch in no_note else pitch - VOICES[i].lowest + 2
    return codes


# Names


@pytest.mark.parametrize(
    ("name", "pitch"),
    [("C4", 60), ("A4", 69), ("a4", 69), ("F#4", 66), ("Gb4", 66), ("B3", 59), ("Cb4", 59), ("B#3", 60), ("b4", 71),
     ("bb4", 70), ("C-1", 0), ("G9", 127), ("E2", 40), ("D5", 74)],
)  # fmt: skip
def test_a_note_is_known_by_its_name(name, pitch):
    assert pitch_of(name) == pitch


@pytest.mark.parametrize("name", ["H4", "C", "4", "C44", "C##4", "", "C 4", "r", "do"])
def test_another_name_is_refused_in_one_sentence(name):
    with pytest.raises(ValueError) as error:
        pitch_of(name)
    sentence = "is no note; one is a letter from A to G, perhaps # or b, and an octave, as in F#4"
    assert str(error.value) == f"{name!r} {sentence}"


# Notes


def test_a_key_that_sounds_on_is_one_note_of_a_roll():
    assert notes_of_roll(roll([60, 64], [60, 64], [60], [], [60, 21], [108])) == [
        Note(21, 4, 1),
        Note(60, 0, 3),
        Note(60, 4, 1),
        Note(64, 0, 2),
        Note(108, 5, 1),
    ]


def test_a_voice_strikes_a_note_again_where_a_roll_cannot():
    codes = voices_of([67, "held", 67, 0, 69, "held"], [60, 60, "held", "held", "held", 0])
    assert notes_of_voices(codes) == [
        Note(67, 0, 2),
        Note(67, 2, 1),
        Note(69, 4, 2),
        Note(60, 0, 1, 1),
        Note(60, 1, 4, 1),
    ]
    assert notes_of_roll(roll_of(pitches_of(codes))) == [Note(60, 0, 5), Note(67, 0, 3), Note(69, 4, 2)]


def test_what_was_never_begun_makes_no_note():
    assert notes_of_voices(voices_of(["held", "held", 67, 0, "held", 67])) == [Note(67, 2, 1), Note(67, 5, 1)]


@given(st.integers(0, 2**32 - 1))
def test_any_codes_make_the_notes_that_their_roll_has(seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.stack([torch.randint(voice.codes, (30,), generator=generator) for voice in VOICES], 1)
    codes[torch.rand(30, 4, generator=generator) < 0.5] = HELD
    sounding = torch.zeros(30, 88)
    for pitch, start, length, _ in notes_of_voices(codes):
        sounding[start : start + length, pitch - 21] = 1
    assert torch.equal(sounding, roll_of(pitches_of(codes)))


@pytest.mark.parametrize(
    "other", [torch.zeros(3, 87), torch.zeros(88), torch.full((2, 88), 0.5), torch.full((2, 88), 60)]
)
def test_what_is_no_roll_is_refused_in_one_sentence(other):
    with pytest.raises(ValueError, match=r"^a piano roll is \(T, 88\), all zeros and ones; this is \(.+\) of \w+$"):
        notes_of_roll(other)


# MIDI, read by the standard: chunks, then events of a time in seven-bit digits and a message


def read_midi(content):
    """Header, tempo in microseconds, and for each track its messages (ticks from the beginning, bytes)."""
    chunks = []
    while content:
        name, size = struct.unpack(">4sI", content[:8])
        chunks.append((name, content[8 : 8 + size]))
        assert len(chunks[-1][1]) == size
        content = content[8 + size :]
    (first, header), *rest = chunks
    assert first == b"MThd" and {name for name, _ in rest} == {b"MTrk"}
    return struct.unpack(">HHH", header), [read_track(track) for _, track in rest]


def read_track(content):
    data, messages, now, status = iter(content), [], 0, 0
    for byte in data:
        digits = [byte]
        while digits[-1] & 0x80:
            digits.append(next(data))
        now += sum((digit & 0x7F) << 7 * i for i, digit in enumerate(reversed(digits)))
        first = next(data)
        if first & 0x80:
            status, given = first, []
        else:  # the status of the message before runs on
            given = [first]
        if status == 0xFF:
            kind, size = next(data), next(data)
            message = (status, kind, *itertools.islice(data, size))
        else:
            more = (1 if status >> 4 in (0xC, 0xD) else 2) - len(given)
            message = (status, *given, *itertools.islice(data, more))
        messages.append((now, message))
    assert messages.pop() == (now, (0xFF, 0x2F)), "a track says where it ends"
    return messages


def notes_in(tracks):
    """As (pitch, ticks of beginning and end, channel); each ends before it begins again."""
    found, sounding = [], {}
    for time, (status, *data) in itertools.chain(*tracks):
        key = (status & 0xF, data[0])
        if status >> 4 == 0x9 and data[1]:
            assert key not in sounding
            sounding[key] = time
        elif status >> 4 in (0x8, 0x9):
            found.append((data[0], sounding.pop(key), time, status & 0xF))
    assert not sounding
    return sorted(found)


def test_a_midi_file_has_the_tempo_a_track_for_each_voice_and_the_notes():
    notes = [Note(67, 0, 1), Note(67, 1, 2), Note(69, 40, 1), Note(48, 0, 4, 3)]
    (form, count, ticks), tracks = read_midi(midi(notes, tempo=100))
    assert (form, count) == (1, len(tracks)) and count == 3
    assert tracks[0] == [(0, (0xFF, 0x51, *(600_000).to_bytes(3, "big")))]
    assert notes_in(tracks[1:]) == [
        (48, 0, 4 * ticks, 3),
        (67, 0, ticks, 0),
        (67, ticks, 3 * ticks, 0),
        (69, 40 * ticks, 41 * ticks, 0),
    ]
    for channel, track in ((0, tracks[1]), (3, tracks[2])):
        assert track[0] == (0, (0xC0 | channel, 19)) and {message[0] & 0xF for _, message in track} == {channel}


@given(
    st.lists(
        st.tuples(st.integers(0, 127), st.integers(0, 3000), st.integers(1, 200), st.integers(0, 3)),
        min_size=1,
        unique_by=lambda note: (note[0], note[3]),
    )
)
def test_any_notes_are_read_back(notes):
    (_, _, ticks), tracks = read_midi(midi([Note(*note) for note in notes]))
    assert notes_in(tracks) == sorted((p, s * ticks, (s + length) * ticks, v) for p, s, length, v in notes)


# Sound


def strongest(samples, rate):
    """The frequency in Hz that is strongest."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 4 * rate))
    return np.argmax(spectrum) / 4


@pytest.mark.parametrize(("pitch", "frequency"), [(69, 440), (57, 220), (60, 261.63), (81, 880), (108, 4186.01)])
@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_note_has_the_frequency_of_its_pitch(pitch, frequency, rate):
    assert strongest(sound([Note(pitch, 0, 1)], rate=rate), rate) == pytest.approx(frequency, abs=0.3)


def test_notes_sound_when_they_are_to_and_as_long():
    samples, rate = sound([Note(69, 0, 2), Note(57, 4, 4)], tempo=120, rate=8000), 8000
    assert samples.dtype == np.float32 and samples.shape == (int(4.1 * rate) + 1,)
    assert np.abs(samples).max() == 1
    loud = [np.abs(samples[int(t * rate) : int((t + 0.2) * rate)]).max() > 0.2 for t in np.arange(0.2, 4, 0.5)]
    assert loud == [True, True, False, False, True, True, True, True]
    assert strongest(samples[:rate], rate) == pytest.approx(440, abs=0.3)
    assert strongest(samples[2 * rate :], rate) == pytest.approx(220, abs=0.3)
    assert np.abs(samples[: rate // 1000]).max() < 0.1 and np.abs(samples[-rate // 1000 :]).max() < 0.1  # no click


def test_a_note_dies_away_by_a_factor_of_e_in_three_seconds():
    samples = sound([Note(69, 0, 5)], tempo=60, rate=8000)
    early, late = (np.abs(samples[t * 8000 : t * 8000 + 4000]).max() for t in (1, 4))
    assert late / early == pytest.approx(np.exp(-1), rel=0.01)


def test_harmonics_that_the_rate_cannot_carry_are_left_out():
    """They would come back as other notes: the second harmonic of 4,186 Hz, at 12,000 samples, as 3,628 Hz."""
    spectrum = np.abs(np.fft.rfft(sound([Note(108, 0, 1)], rate=12000), 12000))
    assert spectrum[3600:3660].max() < 0.01 * spectrum.max()


def test_each_harmonic_is_softer_than_the_one_before():
    rate = 22050
    samples = sound([Note(57, 0, 4)], rate=rate)
    spectrum = np.abs(np.fft.rfft(samples[:rate] * np.hanning(rate)))
    peaks = [spectrum[220 * k - 3 : 220 * k + 4].max() for k in range(1, 10)]
    assert [b / a for a, b in itertools.pairwise(peaks[:8])] == pytest.approx([0.6] * 7, abs=0.01)
    assert peaks[8] < 0.001 * peaks[0]


def test_voices_add_up():
    both = sound([Note(60, 0, 2), Note(67, 0, 2, 1)])
    alone = [sound([Note(pitch, 0, 2)]) for pitch in (60, 67)]
    scale = np.linalg.lstsq(np.stack(alone, 1), both, rcond=None)[0]
    np.testing.assert_allclose(np.stack(alone, 1) @ scale, both, atol=1e-5)
    assert scale == pytest.approx([scale[0]] * 2, rel=0.1)


# What cannot be played


@pytest.mark.parametrize("play", [midi, sound])
@pytest.mark.parametrize(
    ("notes", "tempo", "sentence"),
    [
        ([], 80, "there is no note to be heard"),
        ([Note(60, 0, 1), Note(128, 0, 1)], 80, "MIDI's notes go from 0 to 127; there is none for 128"),
        ([Note(-1, 0, 1)], 80, "MIDI's notes go from 0 to 127; there is none for -1"),
        ([Note(60, 0, 1)], 0, "tempo=0: from 4 to 1,000 quarter notes per minute"),
        ([Note(60, 0, 1)], float("nan"), "tempo=nan: from 4 to 1,000 quarter notes per minute"),
        ([Note(60, 0, 1)], 1001, "tempo=1001: from 4 to 1,000 quarter notes per minute"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_sentence(play, notes, tempo, sentence):
    with pytest.raises(ValueError) as error:
        play(notes, tempo)
    assert str(error.value) == sentence


@pytest.mark.parametrize("tempo", [4, 1000])
def test_the_slowest_and_the_fastest_tempo_are_written(tempo):
    assert read_midi(midi([Note(60, 0, 1)], tempo))[1][0][0][1][2:] == tuple((60_000_000 // tempo).to_bytes(3, "big"))


# MIDI of other programs


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack(">I", len(content)) + content


@pytest.fixture
def written(tmp_path):
    """A function that writes tracks of events, bytes, behind a header, and returns the file."""

    def write(*tracks: bytes, ticks: int = 96, form: int = 1):
        header = chunk(b"MThd", struct.pack(">HHH", form, len(tracks), ticks))
        end = b"\x00\xff\x2f\x00"
        (tmp_path / "song.mid").write_bytes(header + b"".join(chunk(b"MTrk", track + end) for track in tracks))
        return tmp_path / "song.mid"

    return write


def test_what_is_written_is_read_back(tmp_path):
    notes = [Note(60, 0, 2), Note(67, 0, 1, 1), Note(67, 1, 3, 1), Note(64, 2, 1)]
    (tmp_path / "song.mid").write_bytes(midi(notes))
    assert notes_of_midi(tmp_path / "song.mid") == sorted(
        (note._replace(voice=0) for note in notes), key=lambda note: (note.start, note.pitch)
    )
    assert notes_of_midi(str(tmp_path / "song.mid")) == notes_of_midi(tmp_path / "song.mid")


@pytest.mark.parametrize(
    "track, expected",
    [
        # a status that runs on, and an end by a loudness of 0
        (b"\x00\x90\x3c\x40\x60\x3c\x00\x00\x3e\x40\x60\x3e\x00", [(60, 0, 1), (62, 1, 1)]),
        # times near a quarter note are its: 0.4 to 1.6 quarters, and a grace note of none
        (b"\x26\x90\x3c\x40\x73\x80\x3c\x00\x00\x90\x40\x40\x01\x80\x40\x00", [(60, 0, 2), (64, 2, 1)]),
        # struck while it sounds; and never ended
        (b"\x00\x90\x3c\x40\x60\x90\x3c\x40\x60\x80\x3c\x00\x00\x90\x40\x40", [(60, 0, 1), (60, 1, 1), (64, 2, 1)]),
        # drums, a pedal, a text and a system exclusive message beside one note
        (
            b"\x00\x99\x24\x40\x00\xb0\x40\x7f\x00\xff\x01\x01A\x00\xf0\x01\xf7\x00\x90\x3c\x40\x60\x80\x3c\x00",
            [(60, 0, 1)],
        ),
    ],
    ids=["running status", "off the beat", "overlapping", "other events"],
)  # fmt: skip
def test_notes_of_another_program_are_read(written, track, expected):
    assert [(note.pitch, note.start, note.length) for note in notes_of_midi(written(track))] == expected


def test_tracks_sound_together_and_channels_apart(written):
    one = b"\x00\x90\x3c\x40\x60\x80\x3c\x00"
    other = b"\x00\x91\x3c\x40\x81\x40\x81\x3c\x00"  # the same key in channel 2, for 192 ticks
    found = [Note(60, 0, 1), Note(60, 0, 2)]
    assert notes_of_midi(written(one, other)) == found
    assert notes_of_midi(written(one + other, form=0)) == [Note(60, 0, 1), Note(60, 1, 2)]


def test_a_file_that_is_no_midi_is_refused_in_one_sentence(written, tmp_path):
    path = written(b"\x00\x90\x3c\x40")
    whole = path.read_bytes()
    for content in (b"", b"RIFF" + whole, b"G4 A4 B4", whole[:-6]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"song\.mid is no MIDI file, or a damaged one$"):
            notes_of_midi(path)
    with pytest.raises(ValueError, match=r"song\.mid holds no note$"):
        notes_of_midi(written(b"\x00\xff\x01\x01A"))
    with pytest.raises(ValueError, match="frames of a film"):
        notes_of_midi(written(b"\x00\x90\x3c\x40", ticks=0xE728))
    with pytest.raises(FileNotFoundError):
        notes_of_midi(tmp_path / "nowhere.mid")
