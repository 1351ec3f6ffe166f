"""Checks of chapter 5's exercises; the notebook says what each answer must do."""

import math

import torch

from ..cell import VRNNCell
from ..text import encode
from ..text_statistics import entropy
from ..vrnn import VRNN
from .checking import number, of_another_size, same, tensor


def check_5_1(read) -> str:
    """read(cell, codes, noise): a VRNNCell, a prime (P,) and noise (P, 1, Z) to the state h (1, H) after reading it."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        cell = VRNNCell(hidden_size=6, latent_size=4, embedding_size=5).double()
        with torch.no_grad():
            for parameter in cell.parameters():  # large enough for each net to matter
                parameter.copy_(0.5 * torch.randn_like(parameter))
        codes, noise = encode("ROMEO:"), torch.randn(6, 1, 4, dtype=torch.float64)
        longer, more_noise = encode("JULIET:"), torch.randn(7, 1, 4, dtype=torch.float64)

    def after(distribution, codes=codes):
        h = cell.zero_state(noise[0])
        for x, noise_t in zip(codes, noise):
            h = cell.rnn(x[None], distribution(x[None], h).rsample(noise_t), h)
        return cell.hidden(h)

    with torch.no_grad():
        state, wanted = read(cell, codes, noise), VRNN(cell)(codes[:, None], noise=noise).state
        state = tensor(state, (1, 6), "the state", "one row of as many numbers as h has")
        for mistake, sentence in (
            (after(lambda x, h: cell.prior(h)), "z comes from the prior; x_t is known here, so ask the encoder."),
            (after(cell.posterior, codes[:-1]), "the last character of the prime is still to be read."),
            (after(cell.posterior, codes[1:]), "the first character of the prime has been left out."),
            (cell(codes[-1:], noise=noise[-1]).state, "each step starts from zeros: hand the state on."),
        ):
            assert not same(state, mistake), sentence
        unmoved = VRNN(cell)(codes[:, None], noise=torch.zeros(6, 1, 4, dtype=torch.float64)).state
        assert not same(state, unmoved), "z is the mean alone: the deviation times the noise is missing."
        assert same(state, wanted), "this is not the state that the VRNN has after these six characters."
        state = of_another_size(read)(cell, longer, more_noise)
        wanted = VRNN(cell)(longer[:, None], noise=more_noise).state
        assert same(state, wanted), "right for a prime of six characters, wrong for one of seven."
    return "What the prime leaves behind is one vector; from here on the prior takes the encoder's place."


def check_5_2(temperature_for) -> str:
    """temperature_for(logits, nats): (N, V) and a mean entropy to the temperature T of softmax(logits / T) with it."""
    common, own = torch.randn(41, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64).split([1, 40])
    logits = (3 * common + own) * torch.linspace(0.2, 2, 40, dtype=torch.float64)[:, None]
    wanted, found = (1.3, 0.2, 3.2), []
    for nats in wanted:
        t = number(temperature_for(logits.clone(), nats), "temperature").item()
        assert math.isfinite(t) and t > 0, f"a temperature should be finite and above zero, not {t}."
        found.append(t)

    def reached(measure):
        return [math.isclose(measure(t), nats, rel_tol=0.01) for t, nats in zip(found, wanted)]

    def mean_entropy(t):
        return entropy(logits, t).mean().item()

    right = reached(mean_entropy)
    for mistaken, sentence in (
        (lambda t: mean_entropy(t) / math.log(2), "that is the temperature for this many bits; a bit is log 2 nats."),
        (lambda t: mean_entropy(1 / t), "that is 1/T: the temperature divides the logits."),
        (
            lambda t: entropy((logits / t).softmax(-1).mean(0).log()).item(),
            "the mean distribution has this entropy; it is the mean of the 40 entropies that should have it.",
        ),
    ):
        # A search that ends too early may meet one of the three by chance.
        assert sum(reached(mistaken)) < 2, sentence
    for nats, t, ok in zip(wanted, found, right):
        way = "higher" if mean_entropy(t) < nats else "lower"
        assert ok, (
            f"for {nats} nats you say {t:.3f}, but at that temperature the mean entropy is {mean_entropy(t):.3f} nats: "
            f"the one that is sought is {way}{', outside of where you look' if any(right) else ''}."
        )
    return "The entropy rises with the temperature, so there is one temperature for each entropy, and halving finds it."


def check_5_3(nucleus) -> str:
    """nucleus(probabilities, mass): (V,) to (V,), all but the fewest likely codes that hold `mass` set to zero."""
    p = torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2])

    def kept(probabilities, mass):
        answer = nucleus(probabilities.clone(), mass)
        return tensor(answer, probabilities.shape, "the answer", "one probability for each code")

    answer, right = kept(p, 0.7), torch.tensor([0, 0.4, 0, 0.25, 0.2])
    short = torch.tensor([0, 0.4, 0, 0.25, 0])
    assert not same(answer, right), "the right ones are kept; divide by their sum, so that it is 1 again."
    for few in (short, short / short.sum()):
        assert not same(answer, few), "0.4 + 0.25 is not 0.7 yet: the code that passes the mass belongs to it."
    right = right / right.sum()
    ordered = right.sort(descending=True).values
    assert not same(answer, ordered), "these are sorted; each probability must go back to its own code."
    found = [round(value, 3) for value in answer.tolist()]
    assert same(answer, right), f"of {[0.05, 0.4, 0.1, 0.25, 0.2]} with mass 0.7 you make {found}."
    # Sums of these are exact in any precision.
    p = torch.tensor([0.0625, 0.5, 0.125, 0.03125, 0.25, 0.03125])
    assert same(kept(p, 1.0), p), "with mass 1 all the codes should keep their probabilities."
    one = torch.tensor([0, 1.0, 0, 0, 0, 0])
    assert same(kept(p, 0.01), one), "with a mass below its own, the likeliest code alone is kept."
    two = torch.tensor([0, 2.0, 0, 0, 1.0, 0]) / 3
    assert same(kept(p, 0.75), two), "0.5 + 0.25 is 0.75 already: at that mass no further code is kept."
    return "Where the model is sure one code is left, where it is not, many; a temperature never rules anything out."
