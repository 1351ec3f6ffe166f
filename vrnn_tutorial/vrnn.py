"""VRNN: the cell over a sequence, as nn.GRU is to nn.GRUCell (chapter 3).

Only what passes from h to h has to wait for its turn. Everything else leaves the time loop and is done for all steps
in one batch: phi_x and its products with the first weights of posterior and recurrence before it; prior, emission and
both losses after it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .by_hand import gated_path, why_not_by_hand
from .cell import State, VRNNCell, start_from, what_changed
from .emissions import Distribution, Emission
from .gaussian import DiagonalGaussian, check_noise, posterior_from_raw, standard_normal
from .inputs import without_padding
from .lengths import check_lengths, real_steps
from .models import Drawn, sample_of
from .paths import columns_of, open_path, where


class Output(NamedTuple):
    """What a VRNN computes over T steps of a batch of B (the two axes change places with batch_first).

    Behind the end of a sequence that is shorter than T, losses, z and hidden are zero, and the parameters of the
    distributions mean nothing.
    """

    reconstruction: Tensor  # (T, B): loss 1, -log p(x_t | z_t, h_{t-1}), nats per time step
    kl: Tensor  # (T, B): loss 2, KL(posterior || prior) of z_t, nats per time step
    state: State  # after the last step, each sequence's own
    prior: DiagonalGaussian  # parameters (T, B, Z)
    posterior: DiagonalGaussian  # parameters (T, B, Z)
    z: Tensor  # (T, B, Z)
    hidden: Tensor  # (T, B, H): h_1 to h_T of the top layer (and the emission's memory behind it)
    emission: Distribution  # parameters (T, B, ...)
    steps: Tensor | None = None  # (T, B), bool: which steps there are; None for all


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
        """What does not recur is computed for all steps at once, before the path through time and after it."""
        cell = self.cell
        x_posterior, x_rnn, memory = self.input_products(x, heard, state, particles)
        x = x.repeat_interleave(particles, 1) if particles > 1 else x
        layers = cell.layer_states(state)
        before = cell.layer_hidden(layers[-1])
        # One mask per step, or one for all, drawn before the loop: posterior, prior and emission see the same h.
        mask = None
        if cell.training and cell.dropout:
            masks = 1 if cell.locked_dropout else len(x_rnn)
            mask = cell.dropout_masks(masks, x_rnn, particles).expand(len(x_rnn), -1, -1)
        given = cell, x_posterior, x_rnn, noise, layers, mask, memory, steps
        if by_hand:
            hidden, raw, z, z_features, layers = gated_path(*given)
        else:
            choose = None if resample is None else partial(self._choose, x, steps, resample)
            hidden, raw, z, z_features, layers = open_path(*given, particles, choose)
        seen = torch.cat([before[None], hidden[:-1]])
        seen = seen if mask is None else seen * mask
        if memory is not None:
            seen, hidden = torch.cat([seen, memory[:-1]], -1), torch.cat([hidden, memory[1:]], -1)
            memory = memory[-1] if steps is None else memory.take_along_dim(steps.sum(0)[None, :, None], 0)[0]
        state = cell.state_of(layers, memory)
        if self.batch_first:
            x, hidden, raw, z, z_features, seen = (t.transpose(0, 1) for t in (x, hidden, raw, z, z_features, seen))
            steps = None if steps is None else steps.transpose(0, 1)
        prior = cell.prior(seen)
        posterior = posterior_from_raw(raw) if cell.stochastic else prior
        emission = cell.emission_from_features(z_features, seen)
        return _output(-emission.log_prob(x), posterior.kl(prior), state, prior, posterior, z, hidden, emission, steps)

    def _choose(self, x, steps, resample, t: int, seen, raw, z, z_features, layers: tuple) -> tuple:
        """The layers' states from which the particles go on after step t."""
        with torch.no_grad():
            prior = self.cell.prior(seen)
            posterior = posterior_from_raw(raw) if self.cell.stochastic else prior
            emission = self.cell.emission_from_features(z_features, seen)
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
        steps = steps.transpose(0, 1) if self.batch_first and steps is not None else steps
        return _output(reconstruction, kl, state, prior, posterior, z, hidden, emission, steps)

    def input_products(
        self, x: Tensor, heard: Tensor, state: State, particles: int = 1
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the path through time needs and reads no h, for all steps at once and all B K columns.

        It is the share of x in the posterior's first layer (T, B K, .); the share of x, or of what the recurrence reads
        in its place, in the gates (T, B K, .); and the memory before each step and after the last (T + 1, B K, M), if
        the emission keeps one.
        """
        cell, weights = self.cell, self.cell.first_weights()
        emission_type, stochastic = self.emission_type, cell.stochastic
        # A text of more characters than there are codes needs each product once per code, not once per character.
        table = cell.phi_x.takes_codes and cell.characters == 1 and x.numel() > cell.phi_x.input_size
        codes = torch.arange(cell.phi_x.input_size, device=x.device) if table else None
        seen = cell.phi_x.features(x if codes is None else codes)
        read = seen if heard is x or table else cell.phi_x.features(heard)
        x_rnn = F.linear(read, weights.rnn_x, weights.rnn_bias)
        x_posterior = F.linear(seen, weights.posterior_x, weights.posterior_bias) if stochastic else x_rnn[..., :0]
        if table:
            x_posterior, x_rnn = F.embedding(x, x_posterior), F.embedding(heard, x_rnn)
        memory = None
        if particles > 1:
            x_posterior, x_rnn = (part.repeat_interleave(particles, 1) for part in (x_posterior, x_rnn))
        if emission_type.memory_size:
            heard = heard.repeat_interleave(particles, 1)
            memory = torch.cat([state[1][None], emission_type.remember(heard, state[1])])
            if stochastic:
                x_posterior = x_posterior + F.linear(memory[:-1], weights.posterior_memory)
        return x_posterior, x_rnn, memory

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


def _output(reconstruction, kl, state, prior, posterior, z, hidden, emission, steps) -> Output:
    if steps is not None:
        reconstruction, kl = (losses.masked_fill(~steps, 0.0) for losses in (reconstruction, kl))
        z, hidden = (values.masked_fill(~steps[..., None], 0.0) for values in (z, hidden))
    return Output(reconstruction, kl, state, prior, posterior, z, hidden, emission, steps)


def _stack(column, axis: int):
    """One tensor or NamedTuple of T; distributions of another kind stay a tuple of T."""
    first = column[0]
    if isinstance(first, Tensor):
        return torch.stack(column, axis)
    if hasattr(first, "_fields"):
        return type(first)(*(_stack(parts, axis) for parts in zip(*column, strict=True)))
    return column if hasattr(first, "log_prob") else first
