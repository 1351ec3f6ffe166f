"""Tests of counterpoint.py on examples made by hand, each of which a musician knows by ear."""

import math

import pytest
import torch

from vrnn_tutorial.corpora.chorales import HELD, RESTS, VOICES, pitches_of
from vrnn_tutorial.counterpoint import FIFTH, OCTAVE, changes, chords, crossings, parallels, reference_of, statistics

C3, D3, E3, F3, G3, A3, B3 = 48, 50, 52, 53, 55, 57, 59
C4, D4, E4, F4, G4, A4, B4 = (pitch + 12 for pitch in (C3, D3, E3, F3, G3, A3, B3))
C5, D5, E5, F5, G5, A5 = (pitch + 12 for pitch in (C4, D4, E4, F4, G4, A4))


def voices(*columns):
    """Pitches (T, n) of voices from the highest to the lowest."""
    return torch.tensor(columns).T


def chorale(*columns):
    """Codes (T, 4) of pitches, 0 for a rest and "held"."""
    coded = {0: RESTS, "held": HELD}
    return torch.tensor(
        [
            [coded[note] if note in coded else note - voice.lowest + 2 for note in column]
            for voice, column in zip(VOICES, columns)
        ]
    ).T


# Chords


@pytest.mark.parametrize(
    ("notes", "chord"),
    [
        ((C5, G4, E4, C4), {0, 4, 7}),
        ((E5, C5, G4, C3), {0, 4, 7}),  # spread otherwise, the third doubled no more
        ((D5, A4, 66, D4), {0, 4, 7}),  # in D
        ((C5, C5, G4, E4), {0, 3, 8}),  # the first inversion is another chord
        ((C5, G4, 63, C4), {0, 3, 7}),
        ((F5, D5, B4, G3), {0, 4, 7, 10}),
        ((C5, 0, 0, C4), {0}),
        ((C4, E4, G4, A4), {0, 4, 7, 9}),  # the lowest note counts, not the lowest voice
    ],
)
def test_a_chord_is_what_stands_above_its_lowest_note_in_any_key_and_spread(notes, chord):
    assert chords(torch.tensor([notes])) == [frozenset(chord)]


def test_silence_is_no_chord():
    assert chords(voices([0, C5, 0], [0, C4, 0])) == [frozenset({0})]


# Parallels


@pytest.mark.parametrize(
    ("upper", "lower", "fifths", "octaves"),
    [
        ([G4, A4], [C4, D4], 1, 0),  # G over C to A over D, upwards
        ([A4, G4], [D4, C4], 1, 0),
        ([G5, A5], [C4, D4], 1, 0),  # a twelfth is a fifth
        ([C5, D5], [C4, D4], 0, 1),
        ([C5, D5], [C3, D3], 0, 1),
        ([C4, D4], [C4, D4], 0, 1),  # a unison is an octave
        ([G4, A4, B4], [C4, D4, E4], 2, 0),
        ([G4, D5], [C4, G4], 1, 0),  # a leap as well as a step
        ([C4, D4], [G4, A4], 1, 0),  # crossed, they sound the same
        ([G4, D5], [C4, G3], 0, 0),  # contrary motion, from a fifth to a twelfth
        ([C5, C4], [C4, C5], 0, 0),  # voices that change places
        ([G4, G4], [C4, C4], 0, 0),  # the chord again
        ([G4, G5], [C4, C4], 0, 0),  # the lower voice stays
        ([C5, C5], [F4, F3], 0, 0),  # the upper one does
        ([F5, G5], [B4, C5], 0, 0),  # a diminished fifth is none
        ([C5, B4], [F4, E4], 1, 0),
        ([E4, G4], [C4, C4], 0, 0),
        ([A4, G4], [C4, C4], 0, 0),
        ([E5, G5], [A4, C5], 1, 0),
        ([E5, G5], [C5, C5], 0, 0),
        ([E5, G5], [B4, C5], 0, 0),  # hidden fifths: only the second is one
        ([E5, C5], [C4, C4], 0, 0),
        ([G4, F4], [C4, D4], 0, 0),
        ([C5, D5], [G4, A4], 0, 0),  # parallel fourths
        ([E4, F4], [C4, D4], 0, 0),  # thirds
        ([G4, 0, A4], [C4, C4, D4], 0, 0),  # a rest between
        ([0, 0], [C4, D4], 0, 0),
        ([0, 0], [0, 0], 0, 0),
    ],
)
def test_two_voices_are_in_parallel_fifths_or_octaves(upper, lower, fifths, octaves):
    pitches = voices(upper, lower)
    assert (int(parallels(pitches, FIFTH).sum()), int(parallels(pitches, OCTAVE).sum())) == (fifths, octaves)


def test_parallels_are_counted_where_they_happen_and_for_each_pair_of_voices():
    pitches = voices([C5, C5, D5], [G4, G4, A4], [E4, F4, D4], [C4, C4, D4])
    assert parallels(pitches, FIFTH).tolist() == [0, 1]  # alto and bass
    assert parallels(pitches, OCTAVE).tolist() == [0, 1]  # soprano and bass
    block = voices([C5, D5], [G4, A4], [G3, A3], [C3, D3])
    assert parallels(block, FIFTH).tolist() == [2] and parallels(block, OCTAVE).tolist() == [2]


# Crossings and changes


def test_voices_cross_where_a_lower_one_sounds_higher():
    pitches = voices([C5, C5, C5, 0, C4], [G4, D5, C5, G4, C4], [E4, E4, C5, A4, D4], [C4, C4, C4, C4, 0])
    assert crossings(pitches).tolist() == [False, True, False, True, True]
    assert crossings(voices([C4], [G3], [E3], [A3])).tolist() == [True], "voices need not be neighbours"
    assert crossings(voices([C4], [0], [0], [D4])).tolist() == [True]


def test_a_chord_changes_with_any_of_its_notes():
    assert changes(voices([C5, C5, C5, C5], [E4, E4, F4, 0])).tolist() == [False, True, True]


# All of it


BACH = chorale([C5, D5, C5, 0], [E4, G4, E4, 0], [C4, B3, C4, 0], [C3, G3, C3, 0])
ODD = chorale([C5, D5, "held", 0, E5], [G4, A4, "held", "held", 0], [C4, D4, 63, "held", C4], [C3, D3, "held", B3, E3])


def test_what_is_counted_is_held_against_a_reference():
    reference = reference_of([BACH])
    assert reference.chords == {frozenset({0, 4, 7}), frozenset({0, 4})}
    assert reference.ranges == ((C5, D5), (E4, G4), (B3, C4), (C3, G3))
    assert statistics([BACH], reference) == (0, 0, 0, 0, 0, (1, 1, 1, 1))


def test_statistics_of_an_odd_piece():
    """Its chords: C G, D A, D A E flat, B E flat A, E C: four changes."""
    found = statistics([ODD], reference_of([BACH]))
    assert pitches_of(ODD).tolist()[3] == [0, A4, 63, B3]
    assert found.new_chords == 1.0
    # E5, A4, D4, E flat 4 and B3 of soprano, alto, tenor and bass; in all 3 + 2 + 4 + 4 notes.
    assert found.out_of_range == pytest.approx(5 / 13)
    assert found.crossings == 0
    # Into the second chord: alto over tenor, and over bass; soprano with tenor, soprano with bass, tenor with bass.
    assert found.parallel_fifths == 100 * 2 / 4 and found.parallel_octaves == 100 * 3 / 4
    assert found.note_lengths == pytest.approx((4 / 3, 4 / 2, 5 / 4, 5 / 4))


def test_nothing_passes_from_the_end_of_a_piece_to_the_beginning_of_the_next():
    one = chorale([C5, C5], [G4, G4], [C4, C4], [C3, C3])
    other = chorale([D5, D5], [A4, A4], [D4, D4], [D3, D3])
    reference = reference_of([one])
    assert math.isnan(statistics([one, other], reference).parallel_fifths)
    assert math.isnan(statistics([one], reference).parallel_octaves)
    both = statistics([one, ODD], reference)
    assert both.parallel_fifths == 100 * 2 / 4
    assert both.note_lengths[0] == pytest.approx((1 + 1 + 1 + 2 + 1) / 5)


def test_of_silence_shares_are_none():
    silent = chorale([0, 0], [0, 0], [0, 0], [0, 0])
    found = statistics([silent], reference_of([BACH]))
    assert math.isnan(found.new_chords) and math.isnan(found.out_of_range) and found.crossings == 0
    assert all(map(math.isnan, found.note_lengths))
    assert reference_of([silent]).ranges == ((0, 0),) * 4


def test_nothing_to_count_in_is_refused_in_one_sentence():
    for count in (reference_of, lambda pieces: statistics(pieces, reference_of([BACH]))):
        with pytest.raises(ValueError, match="^there is no piece to count in$"):
            count([])
