"""VRNN: the cell over a sequence, as nn.GRU is to nn.GRUCell (chapter 3).

Only what passes from h to h has to wait for its turn. Everything else leaves the time loop and is done for all steps
in one batch: phi_x and its products with the first weights of posterior and recurrence before it; prior, emission and
both losses after it.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn

from .by_hand import gated_path, why_not_by_hand
from .cell import State, VRNNCell, start_from, what_changed
from .emissions import Emission
from .gaussian import DiagonalGaussian, check_noise, posterior_from_raw, standard_normal
from .inputs import without_padding
from .lengths import check_lengths, real_steps
from .models import Drawn, sample_of
from .outputs import LongOutput, Output, put_out
from .paths import columns_of, drop, open_path, shares_of, steps_at_once, where
from .recomputed import recomputed


class VRNN(nn.Module):
    """`out = VRNN(cell)(x, state)`: a VRNNCell, the source's by default, over a sequence.

    Neither loss is weighted or clamped; that is the business of `bounds`. Minus their sum is the ELBO per step:
    Chung et al. 2015 (arXiv 1506.02216), equation 11. batch_first: x is (B, T, ...) in place of (T, B, ...).
    Raises TypeError for a cell that is none.
    """

    def __init__(self, cell: VRNNCell | None = None, batch_first: bool = False):
        super().__init__()
        if not isinstance(cell, VRNNCell | None):
            raise TypeError(f"VRNN takes a VRNNCell, as in VRNN(VRNNCell(128, 64)), not {cell!r}.")
        self.cell = VRNNCell() if cell is None else cell
        self.batch_first = batch_first

    @property
    def batch_axis(self) -> int:
        return 0 if self.batch_first else 1

    @property
    def configuration(self) -> dict:
        """The arguments that make this model again."""
        return {**self.cell.configuration, "batch_first": self.batch_first}

    @property
    def emission_type(self) -> Emission:
        return self.cell.emission_type

    @property
    def latent_size(self) -> int:
        return self.cell.latent_size

    def zero_state(self, like: Tensor) -> State:
        """The cell's."""
        return self.cell.zero_state(like)

    def hidden(self, state: State) -> Tensor:
        """The cell's."""
        return self.cell.hidden(state)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        rnn_input: Tensor | None = None,
        lengths: Tensor | None = None,
        particles: int = 1,
        resample: Callable[[int, Tensor], Tensor | None] | None = None,
        by_hand: bool | None = None,
    ) -> Output:
        """Both losses, and all that they are made of, over a sequence.

        Args:
            x: codes (T, B), (T, B, k), or vectors (T, B, D).
            state: before the first step; None is zeros.
            noise: (T, B, Z), standard normal, drawn with the generator if not given; (T, B K, Z) of K particles.
            generator: torch's own if there is none.
            rnn_input: what the recurrence reads in place of x, whose shape it has; posterior and losses keep to x.
            lengths: (B,), int64, 0 to T: how many steps of each sequence there are; None for all T. What stands behind
                them changes nothing.
            particles: K, how many times each sequence is there, side by side, each time with a z of its own: state,
                noise and outputs have B K columns.
            resample: is called after each step with t and log p(x_t, z_t) - log q(z_t), (B K,), without a gradient, and
                says from which columns (B K,) the next step goes on, or None for each from its own (see bounds.fivo).
            by_hand: whether the recurrence's gradient is the one written by hand; None takes it where it serves.

        With batch_first x, noise and rnn_input start (B, T).

        Raises:
            ValueError: for an x of the wrong type, axes, size or values, or of no steps; noise of another type or size;
                a state of other parts or sizes; lengths of another type or size, or beyond T; fewer than one particle;
                and by_hand=True where it does not serve.
        """
        x, heard, steps = self._read(x, rnn_input, lengths)
        if particles < 1:
            raise ValueError(f"particles must be at least 1, not {particles}.")
        weight = next(self.cell.parameters())
        columns = x.shape[1] * particles
        shape = (len(x), columns, self.latent_size)
        if noise is None:
            noise = standard_normal(shape, weight, generator)
        else:
            noise = noise.transpose(0, 1) if self.batch_first else noise
            check_noise(noise, shape, weight)
        zeros = self.zero_state(weight.new_empty(columns, 0))
        if steps is not None:
            steps = steps.repeat_interleave(particles, 1)
            noise = noise.masked_fill(~steps[..., None], 0.0)
        changed = what_changed(self.cell)
        why_not = changed or why_not_by_hand(self.cell) or (resample and "what resamples looks at each step")
        if by_hand and why_not:
            raise ValueError(f"by_hand=True: {why_not}.")
        kept = self.cell.locked_dropout or self.cell.weight_dropout or (particles > 1 and self.cell.dropout)
        if changed and self.training and kept:
            raise ValueError(
                f"{changed}: called step by step, it keeps no mask; train it without locked_dropout and "
                "weight_dropout, and with particles without dropout."
            )
        if changed:
            return self._step_by_step(x, heard, noise, zeros if state is None else state, steps, particles, resample)
        state = start_from(state, zeros)
        by_hand = not why_not and by_hand is not False
        return self._hoisted(x, heard, noise, state, steps, particles, resample, by_hand)

    def _read(self, x, rnn_input, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """x and what the recurrence reads, (T, B, ...), both checked, and which steps there are."""
        phi_x, axes = self.cell.phi_x, "BT" if self.batch_first else "TB"
        given = [phi_x.read(part, *axes) for part in (x, *(() if rnn_input is None else (rnn_input,)))]
        if given[0].shape != given[-1].shape:
            raise ValueError(f"rnn_input must have x's shape {tuple(given[0].shape)}, not {tuple(given[1].shape)}.")
        if self.batch_first:
            given = [part.transpose(0, 1) for part in given]
        steps = None
        if lengths is not None:
            check_lengths(lengths, *given[0].shape[:2])
            steps = real_steps(lengths, len(given[0]))
        given = [without_padding(part, steps, phi_x) for part in given]
        return given[0], given[-1], steps

    def _hoisted(self, x, heard, noise, state, steps, particles, resample, by_hand: bool) -> Output:
        """What does not recur is computed for all steps at once; of a long sequence for many of them at a time."""
        dropped, length = drop(self.cell, noise, particles), steps_at_once(noise)
        if length >= len(x):
            given = x, heard, noise, state, steps, dropped, particles, resample
            state, x, z, hidden, *made_of = self._path(*given, by_hand)
            distributions = self._distributions(*made_of)
            return put_out(_losses(x, *distributions), state, distributions, z, hidden, self._turned(steps))
        scores, parts = _Scores(self), []
        for start in range(0, len(x), length):
            now = slice(start, start + length)
            x_now, steps_now = x[now], None if steps is None else steps[now]
            heard_now, choose = x_now if heard is x else heard[now], resample and partial(_from, start, resample)
            given = x_now, heard_now, noise[now], state, steps_now, dropped.part(now), particles, choose
            state, x_now, z, hidden, *made_of = self._path(*given, by_hand)
            parts.append((*recomputed(scores, x_now, *made_of), z, hidden, made_of))
        *values, made_of = zip(*parts, strict=True)
        *losses, z, hidden = (torch.cat(value, 1 - self.batch_axis) for value in values)
        distributions = self._later(*zip(*made_of, strict=True))
        return put_out(losses, state, distributions, z, hidden, self._turned(steps), LongOutput)

    def _path(self, x, heard, noise, state, steps, dropped, particles, resample, by_hand: bool) -> tuple:
        """The state after these steps, and of each of them x, z, hidden, and what its distributions are made of."""
        cell = self.cell
        shares = shares_of(cell, x, heard, state, particles)
        x, memory = x.repeat_interleave(particles, 1) if particles > 1 else x, shares.memory
        given = cell, shares, noise, cell.layer_states(state), dropped, steps
        if by_hand:
            before, hidden, raw, z, z_features, layers = gated_path(*given)
        else:
            choose = None if resample is None else partial(self._choose, x, steps, resample)
            before, hidden, raw, z, z_features, layers = open_path(*given, choose)
        seen = before if dropped.seen is None else before * dropped.seen
        if memory is not None:
            seen, hidden = torch.cat([seen, memory[:-1]], -1), torch.cat([hidden, memory[1:]], -1)
            memory = memory[-1] if steps is None else memory.take_along_dim(steps.sum(0)[None, :, None], 0)[0]
        return cell.state_of(layers, memory), *map(self._turned, (x, z, hidden, seen, raw, z_features))

    def _turned(self, values: Tensor | None) -> Tensor | None:
        """What is (T, B, ...), in the order of the model's axes."""
        return values.transpose(0, 1) if self.batch_first and values is not None else values

    def _distributions(self, seen: Tensor, raw: Tensor, z_features: Tensor) -> tuple:
        """Prior, posterior and emission, given what the nets see of h, the posterior's parameters, and phi_z(z)."""
        prior = self.cell.prior(seen)
        posterior = posterior_from_raw(raw) if self.cell.stochastic else prior
        return prior, posterior, self.cell.emission_from_features(z_features, seen)

    def _later(self, *made_of: tuple) -> tuple:
        """Functions that compute the same three, each of them once, of a long sequence's parts."""
        cell, (seen, raw, z_features) = self.cell, (partial(torch.cat, part, 1 - self.batch_axis) for part in made_of)
        prior = cache(lambda: cell.prior(seen()))
        posterior = cache(lambda: posterior_from_raw(raw())) if cell.stochastic else prior
        return prior, posterior, cache(lambda: cell.emission_from_features(z_features(), seen()))

    def _choose(self, x, steps, resample, t: int, seen, raw, z, z_features, layers: tuple) -> tuple:
        """The layers' states from which the particles go on after step t."""
        with torch.no_grad():
            prior, posterior, emission = self._distributions(seen, raw, z_features)
            log_ratio = prior.log_prob(z) - posterior.log_prob(z) + emission.log_prob(x[t])
        return columns_of(layers, resample(t, log_ratio if steps is None else log_ratio.masked_fill(~steps[t], 0.0)))

    def _step_by_step(self, x, heard, noise, state, steps, particles, resample) -> Output:
        """The cell called at each step, for one that is not what VRNNCell made: its own parts say what a step is."""
        axis, columns = 1 - self.batch_axis, []
        same, x, heard = heard is x, x.repeat_interleave(particles, 1), heard.repeat_interleave(particles, 1)
        for t, (x_t, heard_t, noise_t) in enumerate(zip(x, heard, noise, strict=True)):
            step = self.cell(x_t, state, noise_t, **({} if same else {"rnn_input": heard_t}))
            state = step.state if steps is None else where(steps[t], step.state, state)
            loss = -step.emission.log_prob(x_t)
            if resample is not None:
                log_ratio = (step.prior.log_prob(step.z) - step.posterior.log_prob(step.z) - loss).detach()
                log_ratio = log_ratio if steps is None else log_ratio.masked_fill(~steps[t], 0.0)
                state = columns_of(state, resample(t, log_ratio))
            kl, hidden = step.posterior.kl(step.prior), self.cell.hidden(state)
            columns.append((loss, kl, step.prior, step.posterior, step.z, hidden, step.emission))
        reconstruction, kl, prior, posterior, z, hidden, emission = (
            _stack(column, axis) for column in zip(*columns, strict=True)
        )
        distributions = prior, posterior, emission
        return put_out((reconstruction, kl), state, distributions, z, hidden, self._turned(steps))

    def read(
        self,
        x: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        prior_temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> State:
        """The state after x, with z from the posterior.

        Args:
            x, state, lengths: as in `forward`.
            prior_temperature: multiplies z's deviation.
            generator: draws z.
        """
        weight, shape = next(self.parameters()), (*x.shape[:2], self.latent_size)
        # Drawn in single precision, so that a seed gives the same text whatever the precision of the model.
        noise = torch.randn(shape, generator=generator, device=weight.device, dtype=torch.float32)
        return self(x, state, (prior_temperature * noise).to(weight.dtype), lengths=lengths).state

    def draw(
        self,
        state: State,
        temperature: float = 1.0,
        prior_temperature: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        shift: Tensor | None = None,
        noise: Tensor | None = None,
        uniforms: Tensor | None = None,
    ) -> Drawn:
        """The next x of each sequence: prior, sample z, decoder, sample x.

        Args:
            state: what the sequences were so far, B of them.
            temperature: of x, as its distribution's `sample` has it.
            prior_temperature: multiplies z's deviation.
            generator: draws z and x.
            shift: (Z,) or (B, Z), by which z is moved, in units of the prior's deviation.
            noise: (B, Z), standard normal, for z, in the generator's place.
            uniforms: for x, in the generator's place, as its distribution's `sample` says.

        Raises:
            ValueError: for a noise of another type or size.
        """
        cell = self.cell
        h = cell.hidden(state)
        prior = cell.prior(h)
        if not cell.stochastic:
            z = prior.mean
        elif noise is None:
            z = prior.sample(prior_temperature, generator)
        else:
            check_noise(noise, prior.mean.shape, next(cell.parameters()))
            z = prior.rsample(prior_temperature * noise)
        if shift is not None:
            z = z + shift.to(z) * prior.log_std.exp()
        emission = cell.emission(z, h)
        return Drawn(sample_of(emission, temperature, generator, uniforms), z, emission)

    def advance(self, x: Tensor, z: Tensor | None, state: State) -> State:
        """The state after x and z: the cell's recurrence."""
        assert z is not None
        return self.cell.rnn(x, z, state)

    def columns(self, state: State, chosen: Tensor | None) -> State:
        """The state of the sequences (N,) chosen among a state's, by their numbers; None for all as they are."""
        return columns_of(state, chosen)


class _Scores(nn.Module):
    """Both losses of a VRNN's steps, given x and what the distributions are made of."""

    def __init__(self, model: VRNN):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, *made_of: Tensor) -> tuple[Tensor, Tensor]:
        return _losses(x, *self.model._distributions(*made_of))


def _losses(x: Tensor, prior: DiagonalGaussian, posterior: DiagonalGaussian, emission) -> tuple[Tensor, Tensor]:
    return -emission.log_prob(x), posterior.kl(prior)


def _from(start: int, resample: Callable, t: int, log_ratio: Tensor) -> Tensor | None:
    return resample(start + t, log_ratio)


def _stack(column, axis: int):
    """One tensor or NamedTuple of T; distributions of another kind stay a tuple of T."""
    first = column[0]
    if isinstance(first, Tensor):
        return torch.stack(column, axis)
    if hasattr(first, "_fields"):
        return type(first)(*(_stack(parts, axis) for parts in zip(*column, strict=True)))
    return column if hasattr(first, "log_prob") else first
