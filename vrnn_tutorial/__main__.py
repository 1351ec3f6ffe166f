"""The command line: python -m vrnn_tutorial data | train | evaluate | generate | benchmark | figures."""

import argparse
import io
import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch

from . import benchmark, plots
from .cell import RNN_CELLS, VRNNCell
from .char_rnn import CharRNN
from .checkpoint import load_checkpoint
from .configuration import CellConfiguration
from .corpora.shakespeare import shakespeare
from .emissions import Categorical, Chained
from .evaluation import evaluate
from .files import BEST, write_atomically
from .gaussian import checked_seed
from .generation import generate
from .interrupts import Terminated, terminable
from .learner import is_first, processes
from .models import SequenceModel
from .schedules import Cosine, Ramp
from .text import Corpus, corpus_from_file, corpus_from_text, decode, visible
from .training import train
from .vrnn import VRNN


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code.

    That is 0, 1 for what could not be done, 130 for Ctrl-C, 143 for SIGTERM, or 141 for a closed pipe.

    Raises SystemExit, as argparse does, after --help (0) and for arguments that make no command (2).
    """
    options = parser().parse_args(arguments)
    # What the output's encoding does not have becomes a question mark.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        with terminable():
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has gone, as `head` does. What is left of it must go somewhere as Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("stopped" + "; what was learned is kept" * (options.run is run_train), file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    return 0


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that there are."""

    def _get_help_string(self, action):
        return super()._get_help_string(action) if action.default not in (None, False, "", []) else action.help


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        prog="python -m vrnn_tutorial",
        description="Train a variational recurrent neural network on text; generate.",
        epilog="COMMAND --help tells the options. Exit code: 0 done; 1 not done, with the reason in one sentence; "
        "2 no such command or option; 130 stopped by Ctrl-C; 143 by SIGTERM; 141 the reader of the output has gone.",
    )
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run, description):
        name = run.__name__.removeprefix("run_")
        sub = commands.add_parser(name, help=description, description=description, formatter_class=_Help)
        sub.set_defaults(run=run)
        return sub.add_argument

    def text_options(add):
        add("--text", type=Path, nargs="+", metavar="PATH", help="text files of your own, or a folder of .txt files")
        add("--encoding", default="utf-8", metavar="NAME", help="of these files")
        add("--to-ascii", action="store_true", help="respell accented letters and typographic quotes in ASCII")

    command(run_data, "Fetch, verify and build the Shakespeare corpus.")

    add = command(
        run_train,
        "Train a model on Shakespeare or on a text of your own. The defaults are the source "
        "article's: random windows, 64 x 300, 2000 updates, Adam at 0.001.",
    )
    text_options(add)
    add("--vocabulary", choices=["ascii", "own"], default="ascii", help="ASCII's 128 characters, or those of the text")
    add("--out", required=True, metavar="FOLDER", help="for history.json and the checkpoints last and best")
    add("--resume", action="store_true", help="go on with the run in the folder, if there is one")
    add("--updates", type=int, default=2000, help="optimiser steps")
    add(
        "--model",
        choices=["vrnn", "charrnn", "chained"],
        default="vrnn",
        help="charrnn is the control without z; chained is charrnn with that emission",
    )
    add(
        "--emission",
        choices=["categorical", "chained"],
        default="categorical",
        help="whether the characters of one step are independent given z and h, or each is told those before it",
    )
    cell = CellConfiguration()
    add("--hidden", type=int, default=cell.hidden_size, help="size of h")
    add("--latent", type=int, default=cell.latent_size, help="size of z (vrnn)")
    add("--embedding", type=int, default=cell.embedding_size, help="size of the embedding")
    add("--layers", type=int, default=cell.num_layers, help="recurrent layers")
    add("--rnn", choices=list(RNN_CELLS), default=cell.rnn, help="kind of recurrent layer")
    add("--characters", type=int, default=cell.characters, help="characters per time step")
    add("--depth", type=int, default=cell.depth, help="linear layers in each net")
    add("--dropout", type=float, default=cell.dropout, help="share of h hidden from the nets in training")
    add("--locked-dropout", action="store_true", help="hide the same share in all steps of a sequence")
    add("--weight-dropout", type=float, default=cell.weight_dropout, help="share of the weights from h to h left out")
    add(
        "--prior",
        choices=["conditional", "standard"],
        default=cell.prior,
        help="of z, given h, or N(0, 1) at each step (vrnn)",
    )
    add("--no-noise", action="store_true", help="z is the prior's mean, without encoder or KL (vrnn)")
    add(
        "--batching",
        choices=["windows", "streams"],
        default="windows",
        help="random windows from a zero state, or contiguous streams that carry it",
    )
    add("--batch", type=int, default=64, help="sequences per update")
    add("--length", type=int, default=300, help="time steps per sequence and update")
    add("--learning-rate", type=float, default=0.001, help="of Adam; its peak, with --cosine")
    add("--cosine", action="store_true", help="raise the learning rate over --warmup updates, then lower it to 0")
    add("--warmup", type=int, default=100, metavar="N", help="updates that --cosine takes to raise it")
    add("--weight-decay", type=float, default=0.0, help="decoupled weight decay")
    add("--clip", type=float, default=1.0, help="largest norm of the gradient")
    add("--ema-decay", type=float, default=0.0, help="of an average of the weights, which is validated and kept")
    add("--bfloat16", action="store_true", help="compute the losses under autocast to bfloat16; weights stay float32")
    add(
        "--objective",
        choices=["elbo", "iwae", "fivo"],
        default="elbo",
        help="the bound to train with (iwae and fivo: vrnn)",
    )
    add("--particles", type=int, default=1, metavar="K", help="draws of z side by side, for iwae and fivo")
    add("--kl-weight", type=float, default=1.0, help="weight of the KL in the loss")
    add("--anneal", type=int, default=0, metavar="N", help="raise the KL's weight linearly over N updates")
    add("--free-bits", type=float, default=0.0, help="bits of KL per time step that cost nothing more")
    add("--word-dropout", type=float, default=0.0, help="share of the characters hidden from the recurrence")
    add("--evaluate-every", type=int, default=100, metavar="N", help="updates between held-out ELBOs")
    add("--keep", type=int, nargs="*", default=[], metavar="UPDATE", help="updates whose weights are kept")
    add("--seed", type=int, default=0, help="of the weights, the batches and the noise")
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    add("--device", choices=devices, default="cpu", help="where to train")
    add("--threads", type=int, help="processor threads; PyTorch's choice if not given")

    add = command(run_evaluate, "Held-out ELBO of a checkpoint in nats per character, its state carried through.")
    text_options(add)
    add("--checkpoint", type=Path, default=BEST, metavar="FILE", help="a .safetensors file")
    add("--draws", type=int, default=10, help="draws of z to average over")
    add("--out", type=Path, metavar="FILE", help="write the figures to this JSON file as well")

    add = command(run_generate, "Generate text, character by character, as it is drawn.")
    add("--checkpoint", type=Path, default=BEST, metavar="FILE", help="a .safetensors file")
    add("--prime", default="", metavar="TEXT", help="the text to go on from")
    add("--temperature", type=float, default=1.0, help="divides the logits; 0 takes the most likely character")
    add("--prior-temperature", type=float, default=1.0, help="multiplies the deviation of z")
    add("--length", type=int, default=300, help="characters to generate")
    add("--seed", type=int, help="the same seed gives the same text")

    command(run_benchmark, "Measure the speed of training and generation, and how both grow with the sequence.")
    add = command(run_figures, "Draw every figure that the README and the notebooks show.")
    add("--out", type=Path, default=Path("figures"), metavar="FOLDER", help="where to put them")
    return main_parser


def run_data(_) -> None:
    corpus = shakespeare()
    parts = ", ".join(f"{name} {len(getattr(corpus, name)):,}" for name in ("train", "validation", "test"))
    print(f"{corpus.name}: {len(corpus.codes):,} characters ({parts})")


def _corpus(options, vocabulary: str) -> Corpus:
    if options.text is None:
        corpus = shakespeare()
        return corpus_from_text(decode(corpus.codes), corpus.name, vocabulary=vocabulary)
    try:
        return corpus_from_file(
            options.text, to_ascii=options.to_ascii, vocabulary=vocabulary, encoding=options.encoding
        )
    except ValueError as error:
        raise ValueError(_as_options(str(error))) from None


def _as_options(advice: str) -> str:
    """Python's arguments, as the command line spells them."""
    return re.sub(
        r'\b(to_ascii|vocabulary|encoding)=(?:True|"([\w-]+)")',
        lambda found: f"--{found[1].replace('_', '-')} {found[2] or ''}".rstrip(),
        advice,
    )


def _text_model(options) -> tuple[SequenceModel, str]:
    """The model of the checkpoint, and its vocabulary."""
    model: Any = load_checkpoint(options.checkpoint)
    vocabulary = model.emission_type.vocabulary
    if vocabulary is None:
        found = f"{options.checkpoint} holds a {type(model).__name__}"
        raise ValueError(f"{found} of vectors, or of codes without a vocabulary, not of characters.")
    return model, vocabulary


def run_train(options) -> None:
    with processes(options.device) as device:
        _train(options, device)


def _train(options, device: str) -> None:
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    corpus = _corpus(options, options.vocabulary)
    emission = Chained if "chained" in (options.model, options.emission) else Categorical
    torch.manual_seed(checked_seed(options.seed))
    sizes: dict[str, Any] = dict(
        input_size=len(corpus.vocabulary),
        hidden_size=options.hidden,
        embedding_size=options.embedding,
        num_layers=options.layers,
        rnn=options.rnn,
        emission=emission(options.characters, corpus.vocabulary if options.vocabulary == "own" else None),
        depth=options.depth,
        dropout=options.dropout,
        locked_dropout=options.locked_dropout,
        weight_dropout=options.weight_dropout,
    )
    if options.model == "vrnn":
        of_z: dict[str, Any] = dict(latent_size=options.latent, prior=options.prior, stochastic=not options.no_noise)
        model = VRNN(VRNNCell(**sizes, **of_z))
    else:
        model = CharRNN(**sizes)
    shape = dict(batch_size=options.batch, length=options.length, characters=options.characters)
    batches = corpus.streams(**shape) if options.batching == "streams" else corpus.windows(**shape, seed=options.seed)
    peak, weight = options.learning_rate, options.kl_weight
    record = None
    for record in train(
        model,
        batches,
        updates=options.updates,
        out=options.out,
        resume=options.resume,
        seed=options.seed,
        learning_rate=Cosine(peak, options.updates, options.warmup) if options.cosine else peak,
        kl_weight=Ramp(0.0, weight, options.anneal) if options.anneal else weight,
        free_bits=options.free_bits,
        objective=options.objective,
        particles=options.particles,
        word_dropout=options.word_dropout,
        weight_decay=options.weight_decay,
        clip=options.clip,
        ema_decay=options.ema_decay,
        bfloat16=options.bfloat16,
        evaluate_every=options.evaluate_every,
        keep=options.keep,
        device=device,
    ):
        if record.validation is not None:
            print(
                f"update {record.update}: held-out loss {record.validation.loss:.4f} nats per character = "
                f"{record.validation.reconstruction:.4f} + KL {record.validation.kl:.4f}",
                flush=True,
            )
    if record is None and is_first():
        print(f"{options.out} has its {options.updates} updates already; ask for more with --updates")
    elif record is not None and record.sample is not None:
        print(record.sample)


def run_evaluate(options) -> None:
    model, vocabulary = _text_model(options)
    corpus = _corpus(options, vocabulary)
    results = {}
    for name in ("validation", "test", "last_tenth"):
        result = evaluate(model, getattr(corpus, name), draws=options.draws)
        results[name] = {**result._asdict(), "loss": result.loss, "bits": result.bits}
        print(
            f"{name.replace('_', ' '):>10}: {result.loss:.4f} nats per character ({result.bits:.4f} bits) = "
            f"reconstruction {result.reconstruction:.4f} + KL {result.kl:.4f}; "
            f"+-{result.elbo_error:.4f} over draws of z, {result.characters:,} characters",
            flush=True,
        )
    if options.out is not None:
        facts = {"parameters": sum(weight.numel() for weight in model.parameters()), "draws": options.draws, **results}
        write_atomically(options.out, (json.dumps(facts, indent=1) + "\n").encode())


def run_generate(options) -> None:
    pieces = generate(
        _text_model(options)[0],
        options.prime,
        options.temperature,
        options.prior_temperature,
        options.length,
        options.seed,
    )
    safe = visible if sys.stdout.isatty() else str  # a file gets every code as it is
    for piece in itertools.chain([options.prime], pieces):
        print(safe(piece), end="", flush=True)
    print()


def run_benchmark(_) -> None:
    for line in benchmark.report():
        print(line, flush=True)


def run_figures(options) -> None:
    for path in plots.save_figures(options.out):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
