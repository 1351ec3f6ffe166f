"""Character n-grams, for comparison with networks: python data/experiments/ngram.py writes ngram.json beside itself.

Witten and Bell's interpolation (1991, "The zero-frequency problem", method C). After a context that the training text
follows up c times, with T different characters, c_x times with x, p(x) = (c_x + T p'(x)) / (c + T), where p' is the
probability after the context without its first character; before the first count p' is 1/128, as of all ASCII. Only the
training part is counted, and nothing is tuned. Each held-out part is read from its own first character on.
"""

import json
import math
from collections import Counter
from pathlib import Path

from vrnn_tutorial import shakespeare
from vrnn_tutorial.files import write_atomically
from vrnn_tutorial.text import decode

OUT = Path(__file__).with_name("ngram.json")
ORDERS = 7


class WittenBell:
    """All n-grams of a text, up to n = `orders`."""

    def __init__(self, text: str, orders: int, characters: int = 128) -> None:
        self.orders, self.characters = orders, characters
        self.seen = Counter(text[i : i + n] for n in range(1, orders + 1) for i in range(len(text) - n + 1))
        self.followed, self.kinds = Counter(), Counter()  # c and T of each context
        for gram, count in self.seen.items():
            self.followed[gram[:-1]] += count
            self.kinds[gram[:-1]] += 1

    def probabilities(self, past: str, x: str) -> list[float]:
        """p(x) after this past by the n-gram of each order, from 1 on; where the past is short, by what there is."""
        p, found = 1 / self.characters, []
        for n in range(self.orders):
            context = past[len(past) - n :]
            if n <= len(past) and context in self.followed:
                kinds = self.kinds[context]
                p = (self.seen[context + x] + kinds * p) / (self.followed[context] + kinds)
            found.append(p)
        return found

    def losses(self, text: str) -> list[float]:
        """Nats per character of a text, for each order."""
        longest = self.orders - 1
        sums = [0.0] * self.orders
        for i, x in enumerate(text):
            for order, p in enumerate(self.probabilities(text[max(i - longest, 0) : i], x)):
                sums[order] -= math.log(p)
        return [total / len(text) for total in sums]


def main() -> None:
    corpus = shakespeare()
    model = WittenBell(decode(corpus.train), ORDERS)
    found = {str(order): {} for order in range(1, ORDERS + 1)}
    for part in ("validation", "test", "last_tenth"):
        for order, nats in enumerate(model.losses(decode(getattr(corpus, part))), 1):
            found[str(order)][part] = round(nats, 4)
    for order, nats in found.items():
        print(f"{order}-gram:", *(f"  {part.replace('_', ' ')} {value:.4f}" for part, value in nats.items()))
    write_atomically(OUT, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
