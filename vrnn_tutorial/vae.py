"""The variational autoencoder (chapter 1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .cell import net
from .emission import Emission, from_raw, raw_size
from .gaussian import DiagonalGaussian


class VAEOutput(NamedTuple):
    """What a VAE computes for a batch of B, named as in a VRNN's output."""

    reconstruction: Tensor  # (B,): loss 1, -log p(x | z), nats per x
    kl: Tensor  # (B,): loss 2, KL(posterior || prior), nats per x
    prior: DiagonalGaussian  # standard normal, parameters (B, Z)
    posterior: DiagonalGaussian  # parameters (B, Z)
    z: Tensor  # (B, Z)
    emission: Emission  # of x, parameters (B, D)


class VAE(nn.Module):
    """x -> posterior q(z | x) -> z -> emission p(x | z), under a standard normal prior p(z).

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes" (arXiv 1312.6114). input_size: D of the vectors x.
    latent_size: Z. hidden_size: width of the inner layers. emission: "bernoulli" or "gaussian". depth: linear layers
    in each net; at depth 1 encoder and decoder are linear. Raises ValueError for an emission of codes.
    """

    batch_axis = 0

    def __init__(
        self,
        input_size: int = 64,
        hidden_size: int = 128,
        latent_size: int = 2,
        *,
        emission: str = "bernoulli",
        depth: int = 2,
    ):
        super().__init__()
        self.configuration = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        if emission == "categorical":
            raise ValueError("a VAE's emission is bernoulli or gaussian: its x is a vector, not a code.")
        self.emission_kind = emission
        self.posterior_net = net(input_size, hidden_size, 2 * latent_size, depth)
        self.emission_net = net(latent_size, hidden_size, raw_size(emission, input_size), depth)

    def forward(self, x: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None) -> VAEOutput:
        """x: (B, D). noise: (B, Z), standard normal, drawn if not given."""
        posterior = self.posterior(x)
        prior = DiagonalGaussian(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.mean))
        z = posterior.rsample(noise, generator)
        emission = self.emission(z)
        return VAEOutput(-emission.log_prob(x), posterior.kl(prior), prior, posterior, z, emission)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """q(z | x), the encoder. x: (..., D) gives parameters (..., Z)."""
        return DiagonalGaussian(*self.posterior_net(x).chunk(2, -1))

    def emission(self, z: Tensor) -> Emission:
        """p(x | z), the decoder. z: (..., Z) gives parameters (..., D)."""
        return from_raw(self.emission_net(z), self.emission_kind)
