"""Checks of chapter 6's exercises; the notebook says what each answer must do."""

import math

import torch

from .checking import number, of_another_size, same, tensor, three


def check_6_1(active) -> str:
    """active(mean_q, mean_p, threshold): means (T, B, Z) to the number of entries whose difference varies by more."""
    generator = torch.Generator().manual_seed(0)
    T, B = 400, 5
    mean_p = torch.randn(T, B, 6, generator=generator, dtype=torch.float64)
    mean_p[..., 0] /= 2
    tells = torch.randn(T, B, generator=generator, dtype=torch.float64)
    per_sequence = torch.randn(1, B, generator=generator, dtype=torch.float64)
    mean_q = mean_p.clone()
    mean_q[..., 0] *= -1  # varies as much as the prior's mean, and the difference four times as much
    mean_q[..., 1] += 0.05 * tells  # varies by 0.0025
    mean_q[..., 2:4] += 3.0  # apart from the prior, but always by as much
    mean_q[..., 4] += per_sequence
    count = number(active(mean_q.clone(), mean_p.clone(), 0.01), "count of entries")
    assert count != int((mean_q.flatten(0, 1).var(0) > 0.01).sum()), (
        "the posterior's mean moves with the prior's, also where it tells nothing of x: take that away first."
    )
    assert count != 4, (
        "entries 2 and 3 are 3 away from the prior, always: that says nothing. Take the variance, not the square."
    )
    assert count != 3, "entry 1 has a standard deviation of 0.05, so its variance is 0.0025, and under the threshold."
    assert count == 2, (
        f"two of the six are active, not {count:g}: take the variance of the difference, over all steps and sequences."
    )
    lower = number(active(mean_q.clone(), mean_p.clone(), 0.001), "count of entries")
    assert lower == 3, "with a threshold of 0.001 a third is active."
    fewer = of_another_size(active)(mean_q[:50, :3, :2].clone(), mean_p[:50, :3, :2].clone(), 0.01)
    more = of_another_size(active)(mean_q.repeat(1, 1, 2), mean_p.repeat(1, 1, 2), 0.01)
    counts = [number(answer, "count of entries").item() for answer in (fewer, more)]
    assert counts == [1, 4], "with other numbers of steps, sequences and entries it miscounts."
    return "A z may move a great deal and say nothing: what counts is how far the encoder moves away from the prior."


def check_6_2(weigh) -> str:
    """weigh(log_w, log_ratio): (B, K) each, to the increment (B,), the new log weights, the effective number."""
    log_w = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64).log()
    log_ratio = torch.tensor([[-1.0, 0.5, -2.0, 0.0], [-3.0, -3.0, -3.0, -3.0]], dtype=torch.float64)
    both = log_w + log_ratio
    increment = both.logsumexp(1)
    after = both - increment[:, None]
    effective = 1 / after.exp().square().sum(1)

    def weighed(answer, log_w, log_ratio):
        names = "the increment", "the log weights", "the effective number"
        shapes = log_w.shape[:1], log_w.shape, log_w.shape[:1]
        each = "one number per sequence", "one number per particle", "one number per sequence"
        results = three(answer(log_w.clone(), log_ratio.clone()), "increment, log weights and effective number")
        return [tensor(*of_one) for of_one in zip(results, shapes, names, each)]

    got = weighed(weigh, log_w, log_ratio)
    assert not same(got[0], log_ratio.logsumexp(1) - math.log(4)), (
        "the ratios are averaged with the weights from before, not each with 1/K."
    )
    assert not same(got[0], (log_w.exp() * log_ratio).sum(1)), (
        "this is the mean of the logs; the bound adds the log of the mean."
    )
    assert not same(got[0], increment - math.log(4)), (
        "the weights before the step add up to one already: there is no further 1/K."
    )
    assert same(got[0], increment), f"the bound grows by {increment.tolist()}, not by {got[0].tolist()}."
    assert not same(got[1], after.exp()), "these are the weights themselves: their logarithms are asked for."
    assert same(got[1].exp().sum(1), torch.ones(2)), "the weights after the step should add up to one."
    assert same(got[1], after), "a particle's weight is its weight before times its ratio, normalised."
    assert same(got[2], effective), (
        f"four particles of equal weight count as four; yours come to {got[2].tolist()}: it is of the weights *after* "
        "the step, and not of their logarithms."
    )
    low = torch.tensor([0.0, 1000.0])  # one sequence's alone: no number common to both brings them back
    found = weighed(weigh, log_w, log_ratio - low[:, None])
    # In float32 a number near 1,000 has an error of 0.00006.
    assert all(same(value, right, 1e-3) for value, right in zip(found, (increment - low, after, effective))), (
        "ratios as small as exp(-1000) vanish: stay in logs, with logsumexp over each row."
    )
    even = torch.full((3, 5), -math.log(5), dtype=torch.float64)
    others = weighed(of_another_size(weigh), even, torch.full_like(even, -2.0))
    wanted = torch.full((3,), -2.0), even, torch.full((3,), 5.0)
    assert all(same(value, right) for value, right in zip(others, wanted)), (
        "with five particles of each of three sequences it goes wrong: take the sizes from what is given."
    )
    return "Summed over the steps, with particles drawn anew when the number falls under K / 2, this is FIVO."


def check_6_3(price) -> str:
    """price(joint): the probabilities of pairs (V, V), to what independent softmaxes lose on them, nats per pair."""
    joint = torch.tensor([[0.3, 0.1, 0.0], [0.05, 0.2, 0.05], [0.0, 0.1, 0.2]], dtype=torch.float64)
    first, second = joint.sum(1), joint.sum(0)
    entropy = [-torch.xlogy(p, p).sum() for p in (first, second, joint)]
    wanted = entropy[0] + entropy[1] - entropy[2]
    nats = number(price(joint.clone()), "price in nats")
    assert not torch.isnan(nats), "a pair of probability zero adds nothing, but 0 times log 0 is NaN: use torch.xlogy."
    assert not same(nats, entropy[0] + entropy[1]), (
        "this is what the two softmaxes cost; asked is how much more that is than the best model of pairs."
    )
    assert not same(nats, -wanted), "the sign is turned: what is lost is positive."
    assert not same(nats, wanted / math.log(2)), "these are bits; a bit is log 2 nats."
    assert not same(nats, wanted / 2), "this is per character; asked is what is lost per pair."
    assert same(nats, wanted), f"here it is {wanted:.4f} nats, not {nats.item():.4f}."
    apart = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)[:, None] * torch.full((4,), 0.25).double()
    lost = number(of_another_size(price)(apart), "price in nats")
    assert same(lost, torch.zeros(())), "if two characters, of four kinds, are independent, nothing is lost."
    return "It is the mutual information of the two characters: what a z could win back, and at most that."
