"""One picture: how fast, and at what cost per record, over a thousand to a million repayments."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench import cost

Point = Mapping[str, float]

GREEN, BROWN = "#0b6e4f", "#b5651d"


def draw(ours: Sequence[Point], textbook: Sequence[Point], file: Path) -> None:
    """Write the PNG."""
    figure = Figure(figsize=(11, 7.5), dpi=110, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    figure.suptitle(
        "Repayments through two execution environments: kiva-relay and the textbook", fontsize=13, fontweight="bold"
    )
    axes = figure.subplots(2, 2)
    _lines(axes[0, 0], "Throughput, Kiva and AWS answer at once (records/s)", ours, textbook, _per_second)
    _lines(axes[0, 1], "CPU (ms per record)", ours, textbook, lambda point: point["cpu_ms"])
    _lines(axes[1, 0], "DynamoDB (write units per record)", ours, textbook, lambda point: point["wru"], log=False)
    _bars(axes[1, 1], ours, textbook[-1])
    figure.savefig(file, metadata={"Software": None})


def _per_second(point: Point) -> float:
    return point["records"] / point["wall_seconds"]


def _lines(
    axes: Axes,
    title: str,
    ours: Sequence[Point],
    textbook: Sequence[Point],
    value: Callable[[Point], float],
    *,
    log: bool = True,
) -> None:
    last, known = textbook[-1], value(textbook[-1])
    records = [point["records"] for point in ours]
    axes.set_xscale("log")
    if log:
        axes.set_yscale("log")
    axes.plot(records, [value(point) for point in ours], color=GREEN, marker="o", linewidth=2)
    axes.plot([records[0], records[-1]], [known, known], color=BROWN, linewidth=1.5, linestyle="--")
    axes.plot([last["records"]], [known], color=BROWN, marker="s")
    values = [known, *(value(point) for point in ours)]
    low, high = min(values), max(values)
    # Room for what is written above each line.
    axes.set_ylim(low / 1.8 if log else 0, high * 2.6 if log else high * 1.25)
    said = f"textbook {_short(known)}, measured at {last['records']:,.0f} only"
    _say(axes, records[-1], known, said, BROWN)
    above = max(value(point) for point in ours[-2:])
    _say(axes, records[-1], above, f"kiva-relay {_short(value(ours[-1]))}", GREEN)
    _plain(axes, title)
    axes.set_xlabel("records")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,.0f}"))


def _say(axes: Axes, across: float, up: float, said: str, color: str) -> None:
    """Above the right end of a line."""
    place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "right", "va": "bottom"}
    axes.annotate(said, (across, up), color=color, fontsize=9, fontweight="bold", **place)


def _bars(axes: Axes, ours: Sequence[Point], textbook: Point) -> None:
    prices = {f"textbook\n{textbook['records']:,.0f}": cost.usd_per_million(textbook, **cost.TEXTBOOK)}
    prices |= {f"kiva-relay\n{point['records']:,.0f}": cost.usd_per_million(point, **cost.OURS) for point in ours}
    below = [0.0] * len(prices)
    for part, color in {"DynamoDB": "#4f81bd", "Lambda": "#e0a030", "SQS": "#9a9a9a"}.items():
        heights = [price[part] for price in prices.values()]
        axes.bar(list(prices), heights, bottom=below, color=color, label=part, width=0.6)
        below = [under + height for under, height in zip(below, heights, strict=True)]
    for column, total in enumerate(below):
        axes.annotate(f"{total:.2f}", (column, total), (0, 3), textcoords="offset points", ha="center", fontsize=9)
    axes.set_ylim(0, max(below) * 1.3)
    axes.legend(frameon=False, loc="upper right", ncols=3, fontsize=9)
    axes.tick_params(axis="x", length=0)
    _plain(axes, "List price at Kiva's 200 ms (USD per million records)")


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, fontweight="bold", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
