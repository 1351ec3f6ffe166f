"""A step and a short sequence as programs of other machinery: torch.compile, torch.export, ONNX, TorchScript's trace.

Each must compute what the model does, also of another x than the one it was made with.
"""

import io
import warnings

import pytest
import torch
from helpers import vrnn
from torch import nn
from torch.testing import assert_close

from vrnn_tutorial.char_rnn import CharRNN
from vrnn_tutorial.emissions import Pen

near = {"rtol": 1e-5, "atol": 1e-5}
T, B = 3, 2
OPTIONS = {
    "the source's": {},
    "two LSTM layers": {"rnn": "lstm", "num_layers": 2},
    "deep, tanh": {"rnn": "rnn", "depth": 2},
    "chained": {"emission": "chained", "characters": 2},
    "vectors": {"emission": "gaussian"},
    "pen": {"emission": Pen(2, position=True)},
    "without noise": {"stochastic": False},
    "standard prior": {"prior": "standard"},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def model_of(options):
    return vrnn(input_size=5, **options)


def some_x(model, seed: int):
    torch.manual_seed(seed)
    emission = model.emission_type
    if emission.takes_codes:
        return torch.randint(5, (T, B) if emission.characters == 1 else (T, B, emission.characters))
    x = torch.randn(T, B, 5).double()
    if isinstance(emission, Pen):
        x[..., 2:] = torch.eye(3).double()[torch.randint(3, (T, B))]
    return x


class Step(nn.Module):
    """Of a cell: from tensors to tensors."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x, state, noise):
        step = self.cell(x, state, noise)
        return step.state, step.z, *step.prior, *step.posterior, step.emission.log_prob(x)


class Sequence(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, noise, lengths=None):
        out = self.model(x, noise=noise, lengths=lengths)
        return out.reconstruction, out.kl, out.z, out.hidden, out.state


def step_and_arguments(options, *seeds):
    model = model_of(options)
    arguments = []
    for seed in seeds:
        x, state = some_x(model, seed)[0], model.zero_state(torch.zeros(B, 1).double())
        state = torch.utils._pytree.tree_map(lambda zeros: torch.tanh(torch.randn_like(zeros)), state)
        arguments.append((x, state, torch.randn(B, 3).double()))
    return Step(model.cell).eval(), *arguments


def sequence_and_arguments(options, *seeds):
    model = model_of(options)
    return Sequence(model).eval(), *((some_x(model, seed), torch.randn(T, B, 3).double()) for seed in seeds)


def gradients(outputs, module):
    total = sum(part.sum() for part in torch.utils._pytree.tree_leaves(outputs))
    return torch.autograd.grad(total, list(module.parameters()), allow_unused=True, materialize_grads=True)


BOTH = pytest.mark.parametrize("make", [step_and_arguments, sequence_and_arguments], ids=["step", "sequence"])


@BOTH
@every_option
def test_a_compiled_one_is_one_graph_and_computes_the_same(make, options):
    """The graph alone, as fullgraph asks; without the machine code, which takes a minute to make."""
    module, *arguments = make(options, 0, 1)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for given in arguments:
        ours, expected = compiled(*given), module(*given)
        assert_close(ours, expected, **near)
        assert_close(gradients(ours, module), gradients(expected, module), **near)


@pytest.mark.parametrize("lengths", [None, torch.tensor([3, 1])], ids=["equally long", "of two lengths"])
@pytest.mark.parametrize("rnn", ["gru", "lstm", "rnn"])
def test_a_compiled_charrnn_computes_the_same_without_a_warning(rnn, lengths):
    """In more than one graph: no compiler of torch's reads nn.GRU.

    Where one graph ends, torch asks whether a tensor has a gradient, warns itself of that, and hides the warning; made
    an error, it would end the compilation.
    """
    torch.manual_seed(0)
    module, x = CharRNN(5, 4, embedding_size=3, rnn=rnn), torch.randint(5, (T, B))
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        ours = compiled(x, lengths=lengths)[:-2]  # without the emission, which holds more than tensors, and the steps
        found = gradients(ours, module)
    assert [str(warning.message) for warning in shown] == []
    expected = module(x, lengths=lengths)[:-2]
    assert_close(ours, expected, **near)
    assert_close(found, gradients(expected, module), **near)


def test_so_does_one_with_lengths_whose_numbers_are_not_compiled_in():
    module, (x, noise) = sequence_and_arguments({}, 0)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for lengths in ([3, 1], [0, 2]):
        given = x, noise, torch.tensor(lengths)
        assert_close(compiled(*given), module(*given), **near)
        assert_close(gradients(compiled(*given), module), gradients(module(*given), module), **near)


def test_a_compiled_one_draws_noise_for_batches_of_any_size():
    """The second size is the one for which torch compiles without numbers."""
    torch._dynamo.reset()
    compiled = torch.compile(model_of({}), backend="eager")
    for shape in ((4, 2), (5, 3), (3, 4)):
        assert compiled(torch.zeros(shape, dtype=torch.int64)).z.shape == (*shape, 3)


def test_a_compiled_model_of_vectors_does_not_read_the_padding():
    """Not even of a first sequence that has no step at all."""
    module, (x, noise) = sequence_and_arguments({"emission": "gaussian"}, 0)
    x[1:, 1], x[:, 0] = float("nan"), float("nan")
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    given = x, noise, torch.tensor([0, 1])
    assert_close(compiled(*given), module(*given), **near)
    assert_close(gradients(compiled(*given), module), gradients(module(*given), module), **near)
    assert all(torch.isfinite(part).all() for part in gradients(compiled(*given), module))


@BOTH
@every_option
def test_an_exported_program_computes_the_same(make, options):
    module, first, second = make(options, 0, 1)
    program = torch.export.export(module, first, strict=False).module()
    for given in (first, second):
        assert_close(program(*given), module(*given), **near)


def test_an_exported_step_takes_any_number_of_sequences():
    module, given = step_and_arguments({}, 0)
    shapes = {name: {0: torch.export.Dim("B", min=2)} for name in ("x", "state", "noise")}
    program = torch.export.export(module, given, dynamic_shapes=shapes, strict=False).module()
    wider = tuple(torch.cat([part, part.flip(0), part]) for part in given)
    assert_close(program(*wider), module(*wider), **near)


@BOTH
def test_a_traced_one_can_be_saved_and_computes_the_same(make):
    module, first, second = make({}, 0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is old, and that the shapes are fixed
        traced = torch.jit.trace(module, first)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        again = torch.jit.load(file)
    assert_close(again(*second), module(*second), **near)


@pytest.mark.parametrize("options", [OPTIONS["the source's"], OPTIONS["vectors"]], ids=["codes", "vectors"])
def test_a_step_in_onnx_computes_the_same(options):
    onnx, reference = pytest.importorskip("onnx"), pytest.importorskip("onnx.reference")
    pytest.importorskip("onnxscript")
    module, *arguments = step_and_arguments(options, 0, 1)
    module = module.float()
    first, second = ([p.float() if p.is_floating_point() else p for p in given] for given in arguments)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's about itself
        torch.onnx.export(module, tuple(first), dynamo=True, verbose=False).save(file)
    program = reference.ReferenceEvaluator(onnx.load_from_string(file.getvalue()))
    for given in (first, second):
        arrays = dict(zip(program.input_names, (part.numpy() for part in given), strict=True))
        ours = [torch.from_numpy(array) for array in program.run(None, arrays)]
        assert_close(ours, list(module(*given)), **near)


def test_a_control_is_exported_too():
    torch.manual_seed(0)
    model = CharRNN(5, 6, embedding_size=4).eval()

    class Losses(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x).reconstruction

    module, x = Losses().eval(), torch.randint(5, (T, B))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what nn.GRU does inside
        program = torch.export.export(module, (x,), strict=False).module()
    assert_close(program(x.flip(0)), module(x.flip(0)), **near)
