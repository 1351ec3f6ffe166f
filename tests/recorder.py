"""What a figure shows, as lines that a person can read in a diff.

Strings stand in quotes, counts are whole numbers, and what was measured has a decimal point and four digits, counted
from the span of its axis (on a logarithmic axis: three of its own). So `records` knows what must be the same, and how
close is close enough. Up to eight numbers are all there; of more their count, least, greatest, mean and deviation, and
the means of eight equal parts in their order, which tell a curve's shape, and which no single rounding error moves.
"""

import json
import math
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection, PathCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch, PathPatch, Polygon, StepPatch
from matplotlib.path import Path
from matplotlib.quiver import Quiver
from matplotlib.spines import Spine
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FixedLocator, LogFormatter, NullFormatter, ScalarFormatter
from matplotlib.transforms import Transform

from vrnn_tutorial.drawing import read_path

ALL_SHOWN = 8  # numbers; also the parts of more
TEXTS = 30  # of one look in one panel: more are recorded together
PLAIN = ScalarFormatter, LogFormatter, NullFormatter
Columns = dict[str, tuple]  # numbers, and the span of their axis


def quoted(value) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def number(value: float, span: float | None) -> str:
    """Four digits of the span, seven of a value over a thousand times as large; without a span three of the value."""
    digits, scale = (2, abs(value)) if span is None else (3, max(span, abs(value) / 1000))
    if not np.isfinite(scale):
        return quoted(value)
    exponent = math.floor(math.log10(scale)) if scale else 0
    decimals = digits - exponent
    return f"{value:#.{decimals}f}" if 0 <= decimals < 7 else f"{value / 10.0**exponent:.{digits}f}e{exponent}"


def numbers(values, span: float | None) -> str:
    values = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).ravel()
    if len(values) <= ALL_SHOWN:
        return " ".join(number(value, span) for value in values)
    whole, *parts = (part[np.isfinite(part)] for part in (values, *np.array_split(values, ALL_SHOWN)))
    missing = f", {len(values) - len(whole)} not finite" * (len(whole) < len(values))
    if not len(whole):
        return f"({len(values)}{missing})"
    low, high, mean, spread = (number(value, span) for value in (whole.min(), whole.max(), whole.mean(), whole.std()))
    if low == high:
        return f"({len(values)}{missing}) {mean} throughout"
    parts = " ".join(number(part.mean() if len(part) else np.nan, span) for part in parts)
    return f"({len(values)}{missing}) {low} to {high}, {mean} ± {spread}, in order {parts}"


def own(values) -> tuple:
    """Numbers that belong to no axis: the largest is their span."""
    values = np.asarray(values, dtype=float)
    return values, np.abs(values).max(initial=0)


def colours(rgba) -> str:
    names = [to_hex(color, keep_alpha=color[3] < 1) if color[3] else "none" for color in np.reshape(rgba, (-1, 4))]
    different = list(dict.fromkeys(names)) or ["none"]
    order = f" in order {zlib.crc32(''.join(names).encode()):08x}" * (len(different) > 1)
    return (" ".join(different) if len(different) <= ALL_SHOWN else f"{len(different)} colours") + order


def look(artist: Artist) -> str:
    """Its sign in a legend looks the same."""

    def inks(*parts):
        return " ".join(dict.fromkeys(colours(to_rgba(part, artist.get_alpha())) for part in parts))

    if isinstance(artist, Text):
        return inks(artist.get_color())
    if isinstance(artist, Line2D):
        signs = [str(sign) for sign in (artist.get_linestyle(), artist.get_marker())]
        of_marker = () if signs[1] == "None" else (artist.get_markerfacecolor(), artist.get_markeredgecolor())
        return " ".join([*(sign for sign in signs if sign != "None"), inks(artist.get_color(), *of_marker)])
    if isinstance(artist, Collection) and artist.get_array() is not None and getattr(artist, "colors", None) is None:
        return artist.get_cmap().name
    face, edge, styles = colours(artist.get_facecolor()), colours(artist.get_edgecolor()), artist.get_linestyle()
    dashed = any(style not in ("solid", "-", (0, None)) for style in (styles if isinstance(styles, list) else [styles]))
    return face + f" edge {edge}" * (edge not in ("none", face)) + " dashed" * dashed + (artist.get_hatch() or "")


def entries(legend: Legend) -> list[tuple[str, str]]:
    """How each sign looks, and what it stands for."""
    return [(look(sign), text.get_text()) for sign, text in zip(legend.legend_handles, legend.get_texts())]


def opaque(look: str) -> str:
    return re.sub(r"(#\w{6})\w\w", r"\1", look)


class Panel:
    """Axes, with the legends that speak of them."""

    def __init__(self, ax: Axes, legends: list[Legend]):
        self.ax = ax
        self.signs = [entry for legend in legends for entry in entries(legend)]
        self.labels = {part: held.get_label() for held in ax.containers for part in held.get_children()}

    def called(self, artist: Artist) -> str:
        """What the legends call it: by its sign; by its own label, too, where signs are alike or of another kind."""
        label, looks = self.labels.get(artist, artist.get_label()), look(artist)
        alike = [text for sign, text in self.signs if sign == looks]
        alike = alike or [text for sign, text in self.signs if opaque(sign) == opaque(looks)]
        if label in (alike or [text for _, text in self.signs]):
            alike = [label]
        return "".join(f" = {quoted(text)}" for text in alike)

    def at(self, points, transform: Transform) -> Columns:
        """Coordinates with the spans of their axes: None on a logarithmic one, 1 for shares of the axes."""
        x, y = np.ma.asarray(points, dtype=float).reshape(-1, 2).T
        in_data = transform.contains_branch_seperately(self.ax.transData)
        spans = (
            (abs(np.diff(axis.get_view_interval())[0]) if axis.get_scale() == "linear" else None) if data else 1.0
            for data, axis in zip(in_data, (self.ax.xaxis, self.ax.yaxis))
        )
        return dict(zip("xy", zip((x, y), spans)))

    def columns(self, artist: Artist) -> Columns:
        if isinstance(artist, Annotation):
            in_data = artist.anncoords == "data"
            place = self.at(artist.xyann, self.ax.transData) if in_data else {artist.anncoords: own(artist.xyann)}
            return place | {f"to {name}": values for name, values in self.at(artist.xy, self.ax.transData).items()}
        if isinstance(artist, Text):
            return self.at(artist.get_position(), artist.get_transform())
        if isinstance(artist, Line2D):
            return self.at(np.ma.column_stack(artist.get_data(orig=False)), artist.get_transform())
        if isinstance(artist, AxesImage):
            return self.image(artist)
        return self.patch(artist) if isinstance(artist, Patch) else self.collection(artist)

    def image(self, image: AxesImage) -> Columns:
        pixels = np.ma.masked_invalid(np.ma.asarray(image.get_array(), dtype=float))
        columns = self.at(np.reshape(image.get_extent(), (2, 2)).T, image.get_transform())
        span, means = 1.0, {"rows": (1, 2), "columns": (0, 2), "channels": (0, 1)}
        if pixels.ndim == 2:
            span, pixels = np.diff(image.get_clim())[0], pixels[..., None]
            columns["colours"], _ = (image.get_clim(), span), means.pop("channels")
        columns["corners"] = pixels[[0, 0, -1, -1], [0, -1, 0, -1]], span
        return columns | {name: (pixels.mean(axes), span) for name, axes in means.items()}

    def patch(self, patch: Patch) -> Columns:
        """Its outline where that is what it says, an arrow's line; of any other patch middle, width and height."""
        if isinstance(patch, FancyArrowPatch):
            return self.at(patch._posA_posB or patch._path_original.vertices, self.ax.transData)
        outline, to_axes = patch.get_path().transformed(patch.get_patch_transform()), patch.get_data_transform()
        if isinstance(patch, Polygon | PathPatch | StepPatch):
            return self.at(outline.vertices, to_axes)
        box = outline.get_extents()
        x, y = self.at((box.min + box.max) / 2, to_axes).values()
        return {"x": x, "y": y, "width": ([box.width], x[1]), "height": ([box.height], y[1])}

    def collection(self, collection: Collection) -> Columns:
        outlines = collection.get_paths()
        if isinstance(collection, Quiver | PathCollection):  # the same at many places
            columns = self.at(collection.get_offsets(), collection.get_offset_transform())
            if isinstance(collection, Quiver):
                columns |= {"u": own(collection.U), "v": own(collection.V)}
            else:
                columns |= {"sizes": own(collection.get_sizes()), "shape": own(outlines[0].vertices.mean(0))}
        else:
            columns = self.at(Path.make_compound_path(*outlines).vertices, collection.get_transform())
        if collection.get_array() is not None:
            span = np.diff(collection.get_clim())[0]
            columns |= {"colours": (collection.get_clim(), span), "values": (collection.get_array(), span)}
        return columns

    def head(self, artist: Artist) -> str:
        kind = type(artist).__name__
        if isinstance(artist, AxesImage):
            shape = artist.get_array().shape
            empty = np.ma.masked_invalid(artist.get_array()).mask.sum()
            name = artist.get_cmap().name if len(shape) == 2 else "colours"
            return f"{kind} {' x '.join(map(str, shape))} {name}" + f", {empty} empty" * bool(empty)
        arrow = artist.arrow_patch if isinstance(artist, Annotation) else None
        pointing = f" arrow {look(arrow)} {artist.arrowprops.get('arrowstyle', '')}" if arrow else ""
        return f"{kind} {look(artist)}{pointing}{self.called(artist)}"

    def lines(self) -> Iterator[str]:
        """A line for each thing drawn, below it its numbers. Patches of one look are one thing, and so are images, and
        texts if they are many.
        """
        together = defaultdict(list)
        apart = (self.ax.patch, self.ax.title, self.ax._left_title, self.ax._right_title)
        for artist in self.ax.get_children():
            blank = isinstance(artist, Text) and not artist.get_text() and not getattr(artist, "arrow_patch", None)
            unseen = blank or not artist.get_visible() or artist in apart
            if not unseen and not isinstance(artist, Spine | Axis | Axes | Legend):
                alone = not isinstance(artist, Patch | Text | AxesImage)
                together[self.head(artist), id(artist) if alone else None].append(artist)
        for (head, _), artists in together.items():
            texts = [quoted(artist.get_text()) for artist in artists if isinstance(artist, Text)]
            if 0 < len(texts) <= TEXTS:
                for artist, text in zip(artists, texts):
                    places = (f"{name} {numbers(*values)}" for name, values in self.columns(artist).items())
                    yield f"{head} {text}, {', '.join(places)}"
                continue
            columns = [self.columns(artist) for artist in artists]
            if not any(np.size(values) for values, _ in columns[0].values()):
                continue  # nothing but a sign for a legend
            yield " ".join([head, *texts]) if texts else head
            for name, (_, span) in columns[0].items():
                yield f"  {name} {numbers(np.ma.concatenate([np.ravel(each[name][0]) for each in columns]), span)}"


def of_axis(axis: Axis, shown: bool) -> str:
    """Its limits and scale; if it is shown its label, and the ticks that were set by hand or are no plain numbers."""
    low, high = axis.get_view_interval()
    span = abs(high - low) if axis.get_scale() == "linear" else None
    line = f"{axis.axis_name}: {numbers([low, high], span)} {axis.get_scale()}"
    formatter, places = axis.get_major_formatter(), axis.get_majorticklocs()
    if not shown:
        return line
    if isinstance(axis.get_major_locator(), FixedLocator) or not isinstance(formatter, PLAIN):
        words = [numbers(places, span), *map(quoted, formatter.format_ticks(places))]
        line += f", ticks {' '.join(words) if len(places) else 'none'}"
    return f"{line}, {quoted(axis.get_label_text())}"


def of_axes(ax: Axes, legends: list[Legend]) -> list[str]:
    """One panel; an inset axes follows the one that it lies in."""
    legends = [legend for legend in [*legends, ax.get_legend()] if legend]
    lines = [f"axes at {numbers(ax.get_position().bounds, 1.0)}"]
    if place := ax.get_subplotspec():
        lines = [f"axes in row {place.rowspan.start}, column {place.colspan.start}"]
    titles = {loc: ax.get_title(loc) for loc in ("left", "center", "right")}
    lines += [f"title {quoted(title)} {loc}" for loc, title in titles.items() if title]
    lines += [of_axis(axis, ax.axison and axis.get_visible()) for axis in (ax.xaxis, ax.yaxis)]
    ground = colours(ax.get_facecolor())
    lines += [f"ground {ground}"] * (ax.axison and ground != "#ffffff")
    for legend in legends:
        signs = ", ".join(f"{quoted(text)} {sign}" for sign, text in entries(legend))
        lines.append(f"legend {quoted(legend.get_title().get_text())}: {signs}")
    if hasattr(ax, "_colorbar"):
        return [f"colour bar {ax._colorbar.cmap.name}", *lines[1:]]
    lines += Panel(ax, legends).lines()
    for inner in ax.child_axes:
        lines += ["inside it:", *of_axes(inner, [])]
    return lines


def of_svg(page: str) -> list[str]:
    """The lines of a page with an SVG: of each colour its points, and when they come in; then the words."""
    svg = page[: page.index("</svg>") + len("</svg>")]
    together = defaultdict(list)
    for path in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
        together[path.get("stroke")].append((read_path(path.get("d")), path.get("style", "")))
    lines = ["page"]
    for colour, paths in together.items():
        strokes = [stroke for each, _ in paths for stroke in each]
        lines.append(f"{len(strokes)} strokes {colour}, in {len(paths)} lines")
        lines += [f"  {axis} {numbers(values, 1000.0)}" for axis, values in zip("xy", np.concatenate(strokes).T)]
        times = [float(time) for _, style in paths for time in re.findall(r"[\d.]+", style)]
        lines += [f"  seconds {numbers(times, 10.0)}"] * bool(times)
    return lines + [quoted(words) for words in re.findall(r">([^<>]+)<", page[len(svg) :])]


def record(figure: Figure) -> list[str]:
    """The lines of a figure that was drawn: before, limits and places are not yet known."""
    texts = [text.get_text() for text in figure.texts if text.get_text()]
    return [f"figure {' '.join(map(quoted, texts))}".strip()] + [
        line for ax in figure.axes for line in of_axes(ax, figure.legends)
    ]
