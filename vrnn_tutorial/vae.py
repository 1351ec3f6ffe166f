"""The variational autoencoder (chapter 1)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .configuration import VAEConfiguration, made_of
from .emissions import Distribution
from .gaussian import DiagonalGaussian, check_noise, posterior_from_raw
from .inputs import as_tensor, net, values_are_there


class VAEOutput(NamedTuple):
    """What a VAE computes for a batch of B, named as in a VRNN's output."""

    reconstruction: Tensor  # (B,): loss 1, -log p(x | z), nats per x
    kl: Tensor  # (B,): loss 2, KL(posterior || prior), nats per x
    prior: DiagonalGaussian  # standard normal, parameters (B, Z)
    posterior: DiagonalGaussian  # parameters (B, Z)
    z: Tensor  # (B, Z)
    emission: Distribution  # of x, parameters (B, D)


class VAE(nn.Module):
    """x -> posterior q(z | x) -> z -> emission p(x | z), under a standard normal prior p(z).

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes" (arXiv 1312.6114).

    Args:
        input_size: D of the vectors x.
        hidden_size: width of the inner layers.
        latent_size: Z.
        emission: "bernoulli" or "gaussian", or an instance of an Emission of vectors.
        depth: linear layers in each net; at depth 1 encoder and decoder are linear.

    Raises:
        ValueError: for an emission of codes, or one that reads the past, and for sizes that make no model.
    """

    batch_axis = 0

    @made_of(VAEConfiguration)
    def __init__(self, c: VAEConfiguration):
        super().__init__()
        self.configuration = c.as_dict()
        self.emission_type = c.emission_type
        self.posterior_net = net(c.emission_type.reads(c.input_size), c.hidden_size, 2 * c.latent_size, c.depth)
        self.emission_net = net(c.latent_size, c.hidden_size, c.emission_type.size(c.input_size), c.depth)

    def forward(self, x: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None) -> VAEOutput:
        """Both losses. x: (B, D). noise: (B, Z), standard normal, drawn with the generator if not given.

        Raises ValueError for an x of the wrong type, axes, size or values, and for a noise of another type or size.
        """
        D, Z = self.configuration["input_size"], self.configuration["latent_size"]
        weight = next(self.parameters())
        x = as_tensor(x)
        if x.dim() != 2 or x.shape[1] != D or not x.is_floating_point():
            raise ValueError(f"x must hold real vectors (B, {D}), not {x.dtype} {tuple(x.shape)}.")
        if noise is not None:
            check_noise(noise, (len(x), Z), weight)
        x = x.to(weight.dtype)
        if values_are_there():
            self.emission_type.check(x, D)
        posterior = self.posterior(x)
        prior = DiagonalGaussian(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.mean))
        z = posterior.rsample(noise, generator)
        emission = self.emission(z)
        return VAEOutput(-emission.log_prob(x), posterior.kl(prior), prior, posterior, z, emission)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """q(z | x), the encoder. x: (..., D) gives parameters (..., Z)."""
        return posterior_from_raw(self.posterior_net(self.emission_type.inputs(x)))

    def emission(self, z: Tensor) -> Any:
        """p(x | z), the decoder. z: (..., Z) gives parameters (..., D)."""
        return self.emission_type.distribution(self.emission_net(z))
