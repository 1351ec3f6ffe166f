"""Checks of chapter 5's exercises; the notebook says what each answer must do."""

import math

import torch

from ..cell import VRNNCell
from ..data import encode
from ..evaluation import entropy
from ..vrnn import VRNN


def check_5_1(read) -> str:
    """read(cell, codes, noise): a VRNNCell, a prime (P,) and noise (P, 1, Z) to the state h (1, H) after reading it."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        cell = VRNNCell(hidden_size=6, latent_size=4, embedding_size=5).double()
        with torch.no_grad():
            for parameter in cell.parameters():  # large enough for each net to matter
                parameter.copy_(0.5 * torch.randn_like(parameter))
        codes, noise = encode("ROMEO:"), torch.randn(6, 1, 4, dtype=torch.float64)

    def after(distribution, codes=codes):
        h = cell.zero_state(noise[0])
        for x, noise_t in zip(codes, noise):
            h = cell.rnn(x[None], distribution(x[None], h).rsample(noise_t), h)
        return h

    with torch.no_grad():
        state, wanted = read(cell, codes, noise), VRNN(cell)(codes[:, None], noise=noise[:, 0][:, None]).state
        assert state.shape == wanted.shape, f"the state should have shape (1, 6), but has {tuple(state.shape)}."
        for mistake, sentence in (
            (after(lambda x, h: cell.prior(h)), "z comes from the prior; x_t is known here, so ask the encoder."),
            (after(cell.posterior, codes[:-1]), "the last character of the prime is still to be read."),
            (after(cell.posterior, codes[1:]), "the first character of the prime has been left out."),
            (cell(codes[-1:], noise=noise[-1]).state, "each step starts from zeros: hand the state on."),
        ):
            assert not torch.allclose(state, mistake), sentence
        unmoved = VRNN(cell)(codes[:, None], noise=torch.zeros(6, 1, 4, dtype=torch.float64)).state
        assert not torch.allclose(state, unmoved), "z is the mean alone: the deviation times the noise is missing."
        assert torch.allclose(state, wanted), "this is not the state that the VRNN has after these six characters."
    return "What the prime leaves behind is one vector; from here on the prior takes the encoder's place."


def check_5_2(temperature_for) -> str:
    """temperature_for(logits, nats): (N, V) and a mean entropy to the temperature T of softmax(logits / T) with it."""
    common, own = torch.randn(41, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64).split([1, 40])
    logits = (3 * common + own) * torch.linspace(0.2, 2, 40, dtype=torch.float64)[:, None]
    for nats in (1.3, 0.2, 3.2):
        t = float(temperature_for(logits, nats))
        assert math.isfinite(t) and t > 0, f"a temperature should be finite and above zero, not {t}."
        reached = entropy(logits, t).mean().item()
        for mistaken, sentence in (
            (reached / math.log(2), "that is the temperature for this many bits; a bit is log 2 nats."),
            (entropy(logits, 1 / t).mean().item(), "that is 1/T: the temperature divides the logits."),
            (
                entropy((logits / t).softmax(-1).mean(0).log()).item(),
                "the mean distribution has this entropy; it is the mean of the 40 entropies that should have it.",
            ),
        ):
            assert math.isclose(reached, nats, rel_tol=0.01) or not math.isclose(mistaken, nats, rel_tol=0.01), sentence
        message = f"for {nats} nats you say {t:.3f}, but at that temperature the mean entropy is {reached:.3f} nats."
        assert math.isclose(reached, nats, rel_tol=0.01), message
    return "The entropy rises with the temperature, so there is one temperature for each entropy, and halving finds it."


def check_5_3(nucleus) -> str:
    """nucleus(probabilities, mass): (V,) to (V,), all but the fewest likely codes that hold `mass` set to zero."""
    p = torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2], dtype=torch.float64)
    kept = nucleus(p.clone(), 0.7)
    assert kept.shape == p.shape, f"it should have the shape of the probabilities, (5,), but has {tuple(kept.shape)}."
    wanted = torch.tensor([0, 0.4, 0, 0.25, 0.2], dtype=torch.float64)
    short = torch.tensor([0, 0.4, 0, 0.25, 0], dtype=torch.float64)
    assert not torch.allclose(kept, wanted), "the right ones are kept; divide by their sum, so that it is 1 again."
    for few in (short, short / short.sum()):
        assert not torch.allclose(kept, few), "0.4 + 0.25 is not 0.7 yet: the code that passes the mass belongs to it."
    wanted = wanted / wanted.sum()
    ordered = wanted.sort(descending=True).values
    assert not torch.allclose(kept, ordered), "these are sorted; each probability must go back to its own code."
    found = [round(value, 3) for value in kept.tolist()]
    assert torch.allclose(kept, wanted), f"of {p.tolist()} with mass 0.7 you make {found}."
    everything = nucleus(p.clone(), 1.0)
    assert torch.allclose(everything, p), "with mass 1 all the codes should keep their probabilities."
    one = torch.tensor([0, 1.0, 0, 0, 0], dtype=torch.float64)
    assert torch.allclose(nucleus(p.clone(), 0.01), one), "with a mass below its own, the likeliest code alone is kept."
    return "Where the model is sure one code is left, where it is not, many; a temperature never rules anything out."
