"""What x_t is, and how a net's raw numbers become p(x_t | z_t, h_{t-1}): log p, and samples (chapters 3, 6 and on).

An emission says what the x of a model is and how many numbers per step a net must put out; its `distribution` of those
numbers scores x and draws it. All that a new kind of x asks for stands in one class: nothing else in the package names
one. A class of one's own needs `size` and `distribution`, and is given to a model as an instance.
"""

import inspect
import json
from collections.abc import Iterable

from .codes import Categorical, CategoricalDistribution, Chained, ChainedDistribution
from .contract import Distribution, Emission
from .pen import Pen, PenDistribution
from .vectors import (
    Bernoulli,
    BernoulliDistribution,
    Gaussian,
    GaussianDistribution,
    GaussianMixture,
    GaussianMixtureDistribution,
    Scaled,
    ScaledDistribution,
)

__all__ = [
    "Bernoulli",
    "BernoulliDistribution",
    "Categorical",
    "CategoricalDistribution",
    "Chained",
    "ChainedDistribution",
    "Distribution",
    "Emission",
    "Gaussian",
    "GaussianDistribution",
    "GaussianMixture",
    "GaussianMixtureDistribution",
    "Pen",
    "PenDistribution",
    "Scaled",
    "ScaledDistribution",
    "describe",
    "emission_of",
]

#: By name, for codes with `characters` per step.
NAMES = {"categorical": Categorical, "chained": Chained, "bernoulli": Bernoulli, "gaussian": Gaussian}
CLASSES = {emission.__name__: emission for emission in (*NAMES.values(), GaussianMixture, Pen, Scaled)}


class UnknownClass(ValueError):
    """A class that is not this package's, and was not given."""

    def __init__(self, name: str):
        super().__init__(
            f"{name} is not a class of this package: give yours, as in load_checkpoint(..., classes=[{name}])"
        )


def check_class(kind: type, options: Iterable[str], ours: dict[str, type]) -> None:
    """Raises ValueError for a class that its name and these options would not make again."""
    if ours.get(kind.__name__, kind) is not kind:
        raise ValueError(f"a class of the name {kind.__name__} is this package's: give yours a name of its own.")
    takes = (p for p in inspect.signature(kind).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    if lost := [p.name for p in takes if p.name not in options]:
        raise ValueError(
            f"{kind.__name__}: its arguments {lost} would be lost; name them in "
            f"its {'options' if issubclass(kind, Emission) else 'configuration'}."
        )


def emission_of(given: str | dict | Emission, characters: int = 1, classes: Iterable[type] = ()) -> Emission:
    """The emission that is meant by a name, by an instance, or by what `describe` says of one.

    characters: of a named emission of codes. classes: emissions from outside this package, for `describe`'s dicts.
    Raises ValueError for an unknown name, more than one character of vectors, and an instance that cannot be described.
    """
    if isinstance(given, dict) and "name" in given:
        options = dict(given)
        known = CLASSES | {found.__name__: found for found in classes}
        name = options.pop("name")
        if name not in known:
            raise UnknownClass(name)
        if "emission" in options:  # one inside another
            options["emission"] = emission_of(options["emission"], classes=classes)
        given = known[name](**options)
    if isinstance(given, Emission):
        if characters not in (1, given.characters):
            raise ValueError(f"characters={characters}, but the emission has {given.characters} per step.")
        describe(given)
        return given
    if not isinstance(given, str) or given not in NAMES:
        raise ValueError(f"emission must be one of {', '.join(NAMES)}, or an instance, not {given!r}.")
    if NAMES[given].takes_codes:
        return NAMES[given](characters)
    if characters != 1:
        raise ValueError(f"characters={characters}: one or more, and more than one only for codes.")
    return NAMES[given]()


def describe(emission: Emission) -> str | dict:
    """What a configuration says of an emission, as JSON: its name, or its class and its options.

    Raises ValueError if the options are no JSON, or do not make the emission again.
    """
    kind, options = type(emission), dict(emission.options)
    if kind in NAMES.values() and all(
        options[name] == getattr(kind, name, False) for name in options if name != "characters"
    ):
        return kind.__name__.lower()
    check_class(kind, options, CLASSES)
    inner = {"emission": options.pop("emission")} if "emission" in options else {}
    try:
        said = json.loads(json.dumps(options))
        again = dict(kind(**said, **inner).options)
        again.pop("emission", None)
        changed = json.dumps(again, sort_keys=True) != json.dumps(said, sort_keys=True)
    except TypeError as error:
        raise ValueError(
            f"{kind.__name__}: its `options` must be JSON, and be the arguments that make it again ({error})."
        ) from error
    if changed:
        raise ValueError(f"{kind.__name__}: made of its own options {said} it has others, {again}.")
    return {"name": kind.__name__, **said, **{name: describe(each) for name, each in inner.items()}}
