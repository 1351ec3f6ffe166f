"""A Variational Recurrent Neural Network, small enough to read in an evening; the notebooks import it."""

from .cell import VRNNCell
from .char_rnn import CharRNN
from .checkpoint import load_checkpoint
from .corpora.shakespeare import shakespeare
from .evaluation import evaluate
from .generation import generate, sample
from .text import corpus_from_file
from .training import train
from .vae import VAE
from .vrnn import VRNN

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "VRNN",
    "CharRNN",
    "VRNNCell",
    "corpus_from_file",
    "evaluate",
    "generate",
    "load_checkpoint",
    "sample",
    "shakespeare",
    "train",
]
