"""A Variational Recurrent Neural Network, small enough to read in an evening; the notebooks import it."""

from .batches import Sequences
from .cell import VRNNCell
from .char_rnn import CharRNN
from .checkpoint import load_checkpoint
from .corpora.shakespeare import shakespeare
from .emissions import Bernoulli, Categorical, Chained, Emission, Gaussian, GaussianMixture, Pen, Scaled
from .evaluation import evaluate
from .generation import forecast, generate, sample
from .text import corpus_from_file
from .training import train
from .vae import VAE
from .vrnn import VRNN

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "VRNN",
    "Bernoulli",
    "Categorical",
    "Chained",
    "CharRNN",
    "Emission",
    "Gaussian",
    "GaussianMixture",
    "Pen",
    "Scaled",
    "Sequences",
    "VRNNCell",
    "corpus_from_file",
    "evaluate",
    "forecast",
    "generate",
    "load_checkpoint",
    "sample",
    "shakespeare",
    "train",
]
