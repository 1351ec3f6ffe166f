"""Checks of chapter 8's exercises; the notebook says what each answer must do."""

import math

import torch

from .checking import number, of_another_size, same, tensor


def check_8_1(effective) -> str:
    """effective(log_w): logarithms of weights (..., K), not normalised, to how many count (...)."""
    generator = torch.Generator().manual_seed(0)
    log_w = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64)

    def found(answer, log_w):
        return tensor(answer(log_w.clone()), log_w.shape[:-1], "how many count", "one number for K weights")

    w = log_w.softmax(-1)
    wanted = 1 / w.square().sum(-1)
    got = found(effective, log_w)
    assert not same(got, 1 / log_w.square().sum(-1)), "these are logarithms: weights are their exponentials."
    assert not same(got, 1 / log_w.exp().square().sum(-1)), "the weights are to add up to 1 before they are squared."
    assert not same(got, w.square().sum(-1)), "this is the sum of the squares: asked is 1 over it."
    assert not same(got, 1 / w.amax(-1)), "this is 1 over the largest weight; take the squares of all of them."
    entropy = -(w * w.log()).sum(-1)
    assert not same(got, entropy.exp()), "this is the exponential of the entropy, another count; take the squares."
    assert same(got, wanted), f"of the first 5 weights {wanted[0, 0]:.4f} count, not {got[0, 0].item():.4f}."
    for away in (-2000.0, 2000.0):
        far = found(of_another_size(effective), torch.tensor([[away, away, away - 3000]], dtype=torch.float64))
        assert bool(torch.isfinite(far).all()), (
            f"with logarithms around {away:.0f} it fails: only differences count, so take the largest away first."
        )
        assert same(far, torch.full((1,), 2.0), 1e-2), "of two equal weights and one that is next to nothing two count."
    return "A bound's filter draws its particles anew when fewer than half of them count."


def check_8_2(lost) -> str:
    """lost(joint): probabilities (A, B) of two voices to the nats that their margins lose."""
    generator = torch.Generator().manual_seed(0)
    joint = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    joint = joint / joint.sum()

    def found(answer, joint):
        return number(answer(joint.clone()), "number of nats")

    def entropy(p):
        return -torch.xlogy(p, p).sum()

    upper, lower = entropy(joint.sum(1)), entropy(joint.sum(0))
    wanted = upper + lower - entropy(joint)
    got = found(lost, joint)
    assert not same(got, -wanted), "the sign is turned: independence can only cost."
    assert not same(got, wanted / math.log(2)), "these are bits; a bit is log 2 nats."
    assert not same(got, upper + lower), "this is what the margins cost; asked is how much more that is than the table."
    assert not same(got, entropy(joint)), "this is what the table costs; asked is how much more the margins do."
    unweighted = (joint.log() - joint.sum(1, keepdim=True).log() - joint.sum(0).log()).mean()
    assert not same(got, unweighted), "chords are not equally likely: weigh each with its probability."
    uniform = math.log(joint.numel()) - entropy(joint)
    assert not same(got, uniform), "this is against notes that are all equally likely; each voice has its own margin."
    assert same(got, wanted), f"the margins of this table lose {wanted:.4f} nats, not {got:.4f}."
    told = of_another_size(lost)
    two_chords = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64)
    zero = found(told, two_chords)
    assert bool(torch.isfinite(zero)), "a chord that never comes costs nothing, but 0 times log 0 is no number here."
    assert same(zero, torch.tensor(math.log(2))), "of two equally likely chords with no note in common it is log 2."
    alone = found(told, torch.tensor([[0.2], [0.8]]).double() * torch.tensor([[0.3, 0.7]]).double())
    assert same(alone, torch.tensor(0.0)), "voices that are independent lose nothing."
    return "That is what independent voices pay at every step, and all that z or a chain can win back."


def check_8_3(fifths) -> str:
    """fifths(upper, lower): MIDI numbers (T,) each, to whether both move in parallel fifths, (T - 1,)."""
    upper = torch.tensor([67, 69, 69, 71, 72, 79, 81, 0, 67, 69, 62, 64, 64, 60, 67, 65, 69])
    lower = torch.tensor([60, 62, 62, 64, 60, 60, 62, 0, 60, 0, 67, 69, 57, 53, 48, 60, 62])

    def expected(upper, lower, interval=7, octaves=True, moving=True, together=True, rests=True, above=True, both=True):
        apart = upper - lower
        fifth = (apart % 12 if octaves else apart) == interval
        if above:
            fifth &= apart > 0
        if rests:
            fifth &= (upper > 0) & (lower > 0)
        before, after = fifth[:-1], fifth[1:]
        found = before & after if both else after.clone()
        up, down = upper.diff(), lower.diff()
        if together:
            found &= up * down >= 0
        return found & ((up != 0) & (down != 0)) if moving else found

    def found(answer, upper, lower):
        got = answer(upper.clone(), lower.clone())
        return tensor(got, (len(upper) - 1,), "whether fifths are parallel", "one truth value for two quarters").bool()

    wanted = expected(upper, lower)
    got = found(fifths, upper, lower)

    def is_not(sentence, **changed):
        assert not torch.equal(got, expected(upper, lower, **changed)), sentence

    is_not("these are parallel fourths; a fifth has seven semitones.", interval=5)
    is_not("a fifth with an octave between counts as well: 19 semitones.", octaves=False)
    is_not("voices that repeat or hold their notes are not parallel.", moving=False)
    is_not("voices that move towards or away from each other are not parallel.", together=False)
    is_not("a fifth has to stand in both quarters, not only in the second.", both=False)
    is_not("the upper voice has to lie above: a fourth turned round is no fifth.", above=False)
    t = int((got != wanted).nonzero()[0]) if not torch.equal(got, wanted) else 0
    pair = f"{upper[t]} over {lower[t]}, then {upper[t + 1]} over {lower[t + 1]}"
    assert torch.equal(got, wanted), f"{pair}: that {'is' if wanted[t] else 'is not'} a parallel fifth."
    silent = torch.tensor([67, 69, 69]), torch.tensor([0, 62, 0])
    assert not found(of_another_size(fifths), *silent).any(), "a voice that rests has no fifth."
    more = torch.tensor([64, 65, 67]), torch.tensor([57, 58, 60])
    assert torch.equal(found(of_another_size(fifths), *more), torch.tensor([True, True])), (
        "it is right for one length and wrong for another."
    )
    return "Bach has few, by quarters that show no note in between; none of the chapter's models has so few."
