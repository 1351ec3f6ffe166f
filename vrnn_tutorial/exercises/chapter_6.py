"""Checks of chapter 6's exercises; the notebook says what each answer must do."""

import math

import torch


def check_6_1(active) -> str:
    """active(mean_q, mean_p, threshold): means (T, B, Z) to the number of entries whose difference varies by more."""
    generator = torch.Generator().manual_seed(0)
    T, B = 400, 4
    mean_p = torch.randn(T, B, 5, generator=generator, dtype=torch.float64)
    tells = torch.randn(T, B, 2, generator=generator, dtype=torch.float64)
    per_sequence = torch.randn(1, B, generator=generator, dtype=torch.float64)
    mean_q = mean_p.clone()
    mean_q[..., 0] += tells[..., 0]
    mean_q[..., 1] += 0.05 * tells[..., 1]  # varies by 0.0025
    mean_q[..., 2] += 3.0  # apart from the prior, but always by as much
    mean_q[..., 3] += per_sequence
    count = torch.as_tensor(active(mean_q, mean_p, 0.01))
    assert count.numel() == 1, f"it should be one number, not of shape {tuple(count.shape)}."
    count = int(count)
    assert count != int((mean_q.flatten(0, 1).var(0) > 0.01).sum()), (
        "the posterior's mean moves with the prior's, also where it tells nothing of x: take that away first."
    )
    assert count != 3, "entry 2 is 3 away from the prior, always: that says nothing. Take the variance, not the square."
    assert count == 2, f"two of the five entries are active, not {count}: the variance is over all steps and sequences."
    assert int(active(mean_q, mean_p, 0.001)) == 3, "with a threshold of 0.001 a third entry is active."
    return "A z may move a great deal and say nothing: what counts is how far the encoder moves away from the prior."


def check_6_2(weigh) -> str:
    """weigh(log_w, log_ratio): (B, K) each, to the increment (B,), the new log weights, the effective number."""
    log_w = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64).log()
    log_ratio = torch.tensor([[-1.0, 0.5, -2.0, 0.0], [-3.0, -3.0, -3.0, -3.0]], dtype=torch.float64)
    both = log_w + log_ratio
    increment = both.logsumexp(1)
    after = both - increment[:, None]
    effective = 1 / after.exp().square().sum(1)
    result = weigh(log_w, log_ratio)
    assert isinstance(result, tuple) and len(result) == 3, "three things should come back: increment, weights, number."
    got = [torch.as_tensor(value) for value in result]
    shapes = [tuple(value.shape) for value in got]
    assert shapes == [(2,), (2, 4), (2,)], f"their shapes should be (B,), (B, K) and (B,), not {shapes}."
    assert not torch.allclose(got[0], log_ratio.logsumexp(1) - math.log(4)), (
        "the ratios are averaged with the weights from before, not each with 1/K."
    )
    assert not torch.allclose(got[0], (log_w.exp() * log_ratio).sum(1)), (
        "this is the mean of the logs; the bound adds the log of the mean."
    )
    assert not torch.allclose(got[0], increment - math.log(4)), (
        "the weights before the step add up to one already: there is no further 1/K."
    )
    assert torch.allclose(got[0], increment), f"the bound grows by {increment.tolist()}, not by {got[0].tolist()}."
    assert torch.allclose(got[1].exp().sum(1), torch.ones(2).double()), (
        "the weights after the step should add up to one."
    )
    assert torch.allclose(got[1], after), "a particle's weight is its weight before times its ratio, normalised."
    assert torch.allclose(got[2], effective), (
        f"four particles of equal weight count as four; yours come to {got[2].tolist()}: it is of the weights *after* "
        "the step, and not of their logarithms."
    )
    low = [torch.as_tensor(value) for value in weigh(log_w, log_ratio - 1000)]
    assert torch.allclose(low[0], increment - 1000) and torch.allclose(low[1], after), (
        "ratios as small as exp(-1000) vanish: stay in logs, with logsumexp."
    )
    return "Summed over the steps, with particles drawn anew when the number falls under K / 2, this is FIVO."


def check_6_3(price) -> str:
    """price(joint): the probabilities of pairs (V, V), to what independent softmaxes lose on them, nats per pair."""
    joint = torch.tensor([[0.3, 0.1, 0.0], [0.05, 0.2, 0.05], [0.0, 0.1, 0.2]], dtype=torch.float64)
    first, second = joint.sum(1), joint.sum(0)
    entropy = [-torch.xlogy(p, p).sum() for p in (first, second, joint)]
    wanted = entropy[0] + entropy[1] - entropy[2]
    nats = torch.as_tensor(price(joint))
    assert nats.numel() == 1, f"it should be one number, not of shape {tuple(nats.shape)}."
    assert not torch.isnan(nats), "a pair of probability zero adds nothing, but 0 times log 0 is NaN: use torch.xlogy."
    assert not torch.isclose(nats, entropy[0] + entropy[1]), (
        "this is what the two softmaxes cost; asked is how much more that is than the best model of pairs."
    )
    assert not torch.isclose(nats, -wanted), "the sign is turned: what is lost is positive."
    assert not torch.isclose(nats, wanted / math.log(2)), "these are bits; a bit is log 2 nats."
    assert torch.isclose(nats, wanted, atol=1e-6), f"here it is {wanted:.4f} nats, not {nats.item():.4f}."
    apart = first[:, None] * second
    assert torch.as_tensor(price(apart)).abs() < 1e-6, "if the two characters are independent, nothing is lost."
    return "It is the mutual information of the two characters: what a z could win back, and at most that."
