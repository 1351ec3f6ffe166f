"""Tests of harmony.py, against the same probabilities summed over all that might be drawn and integrated over z."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import char_rnn, exact, vrnn
from torch.testing import assert_close

from vrnn_tutorial.corpora.chorales import HELD, RESTS, VOICES, pitches_of
from vrnn_tutorial.emissions import Chained
from vrnn_tutorial.emissions.codes import OPEN
from vrnn_tutorial.harmony import harmonise, harmonise_many, melody, melody_of, only, sketch
from vrnn_tutorial.music import Note
from vrnn_tutorial.vae import VAE

V = 3
NODES, WEIGHTS = (torch.tensor(part) for part in np.polynomial.hermite_e.hermegauss(12))


def two_voices(**options):
    """Of V codes each, and one number z, which matters."""
    model = vrnn(**{"input_size": V, "characters": 2, "latent_size": 1, **options})
    with torch.no_grad():
        for weight in model.cell.emission_net.parameters():
            weight.mul_(3)
    return model


@torch.no_grad()
def joint(model, steps):
    """p(x) of every x (steps, 2): its codes, (N, steps, 2), and probabilities (N,).

    Depth first: each z_t is one of Gauss-Hermite's nodes, each x_t one of all.
    """
    every = torch.tensor(list(itertools.product(range(V), repeat=2)))
    paths, p = torch.empty(1, 0, 2, dtype=torch.int64), torch.ones(1).double()
    state = model.zero_state(torch.empty(1, 0).double())
    for _ in range(steps):
        h = model.hidden(state)
        if model.latent_size:
            prior = model.cell.prior(h)
            z = (prior.mean[:, None] + prior.log_std.exp()[:, None] * NODES[:, None]).flatten(0, 1)
            h, state = h.repeat_interleave(len(NODES), 0), model.columns(state, copies(len(h), len(NODES)))
            p, paths = (p[:, None] * WEIGHTS / WEIGHTS.sum()).flatten(), paths.repeat_interleave(len(NODES), 0)
            emission = model.cell.emission(z, h)
        else:
            z, emission = None, model.emission(h)
        N = len(h)
        nine = copies(N, len(every))
        emission = type(emission)(*(part[nine] if isinstance(part, torch.Tensor) else part for part in emission))
        x = every.repeat(N, 1)
        p = p[nine] * emission.log_prob(x).exp()
        paths = torch.cat([paths[nine], x[:, None]], 1)
        state = model.advance(x, None if z is None else z[nine], model.columns(state, nine))
    codes, which = paths.flatten(1).unique(dim=0, return_inverse=True)
    return codes.view(-1, steps, 2), torch.zeros(len(codes)).double().index_add_(0, which, p)


def copies(count, times):
    return torch.arange(count).repeat_interleave(times)


MODELS = {
    "VRNN": lambda: two_voices(),
    "VRNN of two layers of LSTM": lambda: two_voices(rnn="lstm", num_layers=2),
    "RNN": lambda: char_rnn(input_size=V, characters=2),
    "RNN of two layers of LSTM": lambda: char_rnn(input_size=V, characters=2, rnn="lstm", num_layers=2),
    "chained VRNN": lambda: two_voices(emission=Chained(2), characters=1),
    "chained RNN": lambda: char_rnn(input_size=V, emission=Chained(2)),
}
GIVEN = [[[2, OPEN], [0, OPEN]], [[OPEN, 1], [OPEN, 2]], [[OPEN, OPEN], [1, OPEN]], [[0, OPEN], [OPEN, 2]]]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(("particles", "below"), [(4, 0.9), (3, 0.0)], ids=["resampled", "independent"])
def test_p_of_the_given_and_of_what_is_drawn_to_it_are_right_on_average(make, particles, below):
    """With any number of particles the mean of exp(log_p) is p(given), and p(x), if only draws of x are counted."""
    model = make()
    codes, p = joint(model, 2)
    assert p.sum().item() == pytest.approx(1, abs=1e-9)
    for given in GIVEN:
        given = torch.tensor(given)
        fits = ((codes == given) | (given == OPEN)).flatten(1).all(1)
        found = harmonise_many(model, [given] * 2000, particles, resample_below=below, seed=0)
        estimates = torch.tensor([harmony.log_p for harmony in found]).double().exp()
        drawn = torch.stack([harmony.voices for harmony in found])
        counted = estimates[:, None] * (drawn[:, None] == codes[fits]).flatten(2).all(2)
        assert_close(counted.sum(1), estimates, **exact)  # each draw is one of those that fit
        for each, truth in ((estimates, p[fits].sum()), *zip(counted.T, p[fits])):
            if truth > 0.03 * p[fits].sum():
                assert abs(each.mean() - truth) < 4 * each.std() / math.sqrt(len(each))
        assert estimates.std() / math.sqrt(len(found)) < 0.03 * p[fits].sum()


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_state_of_chosen_sequences_is_theirs(make):
    model, chosen = make(), torch.tensor([2, 0, 0])
    x, noise = torch.randint(V, (4, 3, 2)), {"noise": torch.randn(4, 3, 1).double()} if model.latent_size else {}
    found = model.columns(model(x, **noise).state, chosen)
    assert_close(found, model(x[:, chosen], **{name: each[:, chosen] for name, each in noise.items()}).state)


def test_with_nothing_given_voices_are_samples_and_with_all_given_they_stay():
    model = two_voices()
    free = harmonise(model, torch.full((5, 2), OPEN), 4, seed=3)
    assert (free.log_p, free.effective.tolist()) == (0.0, [4.0] * 5)
    assert len({str(harmonise(model, torch.full((5, 2), OPEN), 4, seed=seed).voices) for seed in range(9)}) > 5
    x = torch.randint(V, (5, 2))
    assert torch.equal(harmonise(model, x, 4, seed=3).voices, x)
    rnn = char_rnn(input_size=V, characters=2)
    assert harmonise(rnn, x, 4).log_p == pytest.approx(-rnn(x[:, None]).reconstruction.sum().item(), abs=1e-9)


def test_pieces_of_unlike_lengths_side_by_side_have_particles_of_their_own():
    """Against one piece at a time: a model that is sure of its voices leaves nothing to chance."""
    model = char_rnn(input_size=V, characters=2)
    pieces = [torch.randint(V, (T, 2), generator=torch.Generator().manual_seed(T)) for T in (3, 6, 1)]
    found = harmonise_many(model, pieces, 5, seed=0)
    for piece, harmony in zip(pieces, found):
        assert torch.equal(harmony.voices, piece) and harmony.effective.shape == (len(piece),)
        assert harmony.log_p == pytest.approx(-model(piece[:, None]).reconstruction.sum().item(), abs=1e-9)


def test_the_effective_particles_are_those_before_any_is_drawn_anew():
    """A model without memory, whose first voice has the code 0 where z > 0 and else never: particles live or die."""
    model = two_voices()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.cell.phi_z[0][0].weight.fill_(1.0)
        model.cell.emission_net[0].weight[0, -6:] = 1000.0
    given = torch.tensor([[0, OPEN], [OPEN, OPEN], [0, OPEN]])
    anew, never = (harmonise(model, given, 8, resample_below=below, seed=1) for below in (0.9, 0.0))
    first, between, last = (round(number) for number in anew.effective.tolist())
    assert 1 < first < 7 and between == 8 and 1 < last < 7
    assert anew.log_p == pytest.approx(math.log(first / 8 * last / 8), abs=1e-6)
    first, between, last = (round(number) for number in never.effective.tolist())
    assert 1 < first == between > last >= 1
    assert never.log_p == pytest.approx(math.log(last / 8), abs=1e-6)


@pytest.mark.parametrize("below", [0.5, 0.0])
def test_a_seed_fixes_the_voices(below):
    model, given = two_voices(), torch.tensor([[2, OPEN]] * 12)
    one, again, other = (harmonise(model, given, 9, resample_below=below, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(one.voices, again.voices) and one.log_p == again.log_p
    assert not torch.equal(one.voices, other.voices) and one.log_p != other.log_p


def test_particles_that_are_drawn_anew_stay_many_where_independent_ones_die_out():
    model, given = two_voices(), torch.tensor([[2, OPEN], [0, OPEN]] * 40)
    kept, lost = (harmonise(model, given, 50, resample_below=below, seed=0).effective for below in (0.5, 0.0))
    assert kept.min() > 5 and lost[-10:].max() < 5
    assert kept[0] == lost[0]


def test_dropout_is_not_for_harmonising_and_the_model_stays_as_it_was():
    model = two_voices(dropout=0.5, num_layers=2)
    given = torch.tensor([[2, OPEN]] * 6)
    calm = harmonise(model, given, 9, seed=0)
    model.train()
    assert harmonise(model, given, 9, seed=0).log_p == calm.log_p and model.training


def test_of_voices_only_those_named_are_kept():
    voices = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert only(voices, 0).tolist() == [[1, OPEN, OPEN], [4, OPEN, OPEN]]
    assert only(voices, 0, 2).tolist() == [[1, OPEN, 3], [4, OPEN, 6]] and voices[0, 1] == 2


def notes(given):
    """Of a soprano its pitches, "-" where one is held; the other voices are open."""
    assert (given[:, 1:] == OPEN).all()
    names = {HELD: "-", RESTS: 0}
    return [names[code] if code in names else code - 2 + VOICES[0].lowest for code in given[:, 0].tolist()]


def test_a_melody_is_written_with_the_names_of_notes():
    assert notes(melody("G4 A4 - - Bb4\n r G4 G4")) == [67, 69, "-", "-", 70, 0, 67, 67]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("", "the soprano has no frames"),
        (" ", "the soprano has no frames"),
        ("G4 C9", "the soprano has the note 120 in frame 1; its notes go from 57 to 81, and 0 is a rest"),
        ("G4 H4", "'H4' is no note; one is a letter from A to G, perhaps # or b, and an octave, as in F#4"),
        ("- G4", "the soprano holds a note in frame 0 that does not sound in the frame before"),
        ("G4 r -", "the soprano holds a note in frame 2 that does not sound in the frame before"),
    ],
)
def test_a_melody_that_cannot_be_sung_is_refused_in_one_sentence(written, sentence):
    with pytest.raises(ValueError) as error:
        melody(written)
    assert str(error.value) == sentence


def on_key(pitch):
    """The height at which the middle of a white key lies on a sheet."""
    keys = [p for p in range(57, 82) if p % 12 in (0, 2, 4, 5, 7, 9, 11)]
    return 1 - (keys.index(pitch) + 0.5) / len(keys)


@pytest.mark.parametrize(
    ("strokes", "heard"),
    [
        ([[[0, 1], [1, 1]]], [57, "-", "-", "-"]),
        ([[[1, 0], [0, 0]]], [81, "-", "-", "-"]),  # drawn backwards
        ([[[0, on_key(60)], [0.5, on_key(60)], [0.5, on_key(64)], [1, on_key(64)]]], [60, "-", 64, "-"]),
        ([[[0.125, on_key(60)], [0.875, on_key(65)]]], [60, 62, 64, 65]),  # a slope
        ([[[0, on_key(67)], [0.5, on_key(67)]], [[0.5, on_key(67)], [1, on_key(67)]]], [67, "-", 67, "-"]),
        ([[[0, on_key(67)], [1, on_key(67)]], [[0.5, on_key(72)], [0.7, on_key(72)]]], [67, "-", 72, 67]),
        ([[[0.3, on_key(71)]]], [71]),  # a dot
        ([[[0.3, on_key(71)]], [[1.0, on_key(69)]]], [71, "-", 69]),
        ([[[0.3, on_key(71)], [0.31, 0.9]], [[0.6, on_key(69)], [0.9, on_key(69)]]], [71, 69, "-"]),  # hardly a line
    ],
)
def test_a_drawn_line_is_a_melody(strokes, heard):
    assert notes(sketch(strokes, 4)) == heard


def test_of_several_notes_the_highest_is_the_melody():
    # A held G, over it for one quarter a B; then nothing, and a C that lasts two.
    notes = [Note(67, 2, 4), Note(71, 3, 1), Note(72, 7, 2), Note(60, 2, 7)]
    given = melody_of(notes)
    assert pitches_of(given.clamp(min=0))[:, 0].tolist() == [67, 71, 67, 67, 60, 72, 72]
    assert [code == HELD for code in given[:, 0]] == [False, False, False, True, False, False, True]
    assert (given[:, 1:] == OPEN).all()
    rests = melody_of([Note(67, 0, 1), Note(67, 2, 1)])
    torch.testing.assert_close(rests, melody("G4 r G4"))
    again = melody_of([Note(67, 0, 1), Note(67, 1, 2)])
    torch.testing.assert_close(again, melody("G4 G4 -"))


@pytest.mark.parametrize(
    "notes, sentence",
    [([], "there is no note in this melody"), ([Note(84, 0, 1)], "the soprano has the note 84 in frame 0; its notes")],
)
def test_notes_that_cannot_be_sung_are_refused(notes, sentence):
    with pytest.raises(ValueError, match=sentence):
        melody_of(notes)


def test_an_empty_sheet_is_no_melody():
    with pytest.raises(ValueError, match="^there is no melody on the sheet$"):
        sketch([])


def test_a_sheet_is_sixteen_quarters_wide():
    assert len(sketch([[[0, 0.5], [1, 0.5]]])) == 16


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "given must be int64 codes (T, 2), not torch.float32 (0,)."),
        (torch.zeros(0, 2).long(), "given has no step."),
        ([1, 2], "given must be int64 codes (T, 2), not torch.int64 (2,)."),
        ([[1.0, -1.0]], "given must be int64 codes (T, 2), not torch.float32 (1, 2)."),
        ([[1, 2, 0]], "given must be int64 codes (T, 2), not torch.int64 (1, 3)."),
        ([[0, 2], [3, 0]], "given holds 3; the model's codes go from 0 to 2, and -1 is drawn."),
        ([[0, 2], [0, -2]], "given holds -2; the model's codes go from 0 to 2, and -1 is drawn."),
    ],
)
def test_what_cannot_be_harmonised_is_refused_in_one_sentence(given, sentence):
    with pytest.raises(ValueError) as error:
        harmonise(two_voices(), torch.as_tensor(given))
    assert str(error.value) == sentence


def test_no_piece_no_particle_and_a_model_of_one_voice_of_numbers_or_of_no_sequences_are_refused():
    with pytest.raises(ValueError, match="^harmonise is of sequences, and the x of a VAE follow on nothing.$"):
        harmonise(VAE(5, 4, 2), torch.zeros(3, 2).long())
    with pytest.raises(ValueError, match="^particles must be at least 1, not 0.$"):
        harmonise(two_voices(), torch.zeros(3, 2).long(), 0)
    with pytest.raises(ValueError, match="^there is no piece to harmonise.$"):
        harmonise_many(two_voices(), [])
    for model in (vrnn(), vrnn(emission="gaussian", input_size=4)):
        with pytest.raises(ValueError, match="^harmonise takes a model of several voices, each of them a code;"):
            harmonise(model, torch.zeros(3, 1).long())
