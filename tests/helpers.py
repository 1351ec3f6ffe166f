"""What several files of tests use: small models whose weights are large enough for the state and for z to matter."""

import torch

from vrnn_tutorial.cell import VRNNCell
from vrnn_tutorial.vrnn import VRNN


def spread(model):
    """The model in float64 with other weights, for evaluation."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model.double().eval()


def vrnn(batch_first: bool = False, **options) -> VRNN:
    return spread(VRNN(VRNNCell(**{"hidden_size": 6, "latent_size": 3, "embedding_size": 4, **options}), batch_first))
