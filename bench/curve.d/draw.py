# SPDX-License-Identifier: MIT
"""Draws rate, CPU per page and latency, each as SVG and PNG."""
import os
import statistics
import textwrap

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator  # noqa: E402

import machine  # noqa: E402
import published  # noqa: E402
from points import density_words, grouped, label, series_of  # noqa: E402

# The Okabe-Ito palette, which is safe for colour-blind readers; each design has a marker too.
LOOKS = {
    "kernel": ("#000000", "s"),
    "kernel_populate": ("#555555", "P"),
    "kernel_huge": ("#777777", "X"),
    "single": ("#d55e00", "v"),
    "single_window": ("#e69f00", "^"),
    "per_vcpu": ("#cc79a7", "D"),
    "engine": ("#0072b2", "o"),
    "engine_released": ("#7b3294", "h"),
    "engine_small": ("#56b4e9", "d"),
    "engine_page": ("#999999", "p"),
    "engine_in_context": ("#009e73", "*"),
}
OURS = ("engine", "engine_released", "engine_in_context")
PUBLISHED = "#888888"
# High resolution for HiDPI screens; the README shows it at half the width.
PNG_DPI = 150
LABEL_GAP_POINTS = 14

plt.rcParams.update({
    "font.size": 11,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "faultlane",
})


def look(design: str) -> dict:
    colour, marker = LOOKS.get(design, ("#999999", "."))
    ours = design in OURS
    return {"color": colour, "marker": marker, "linewidth": 2.8 if ours else 1.6,
            "markersize": (9 if marker == "*" else 6) if ours else 5, "zorder": 5 if ours else 3}


def value_text(value: float, _position=None) -> str:
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def time_text(value_us: float, _position=None) -> str:
    for limit, unit in ((1e6, " s"), (1e3, " ms")):
        if value_us >= limit:
            return f"{value_us / limit:g}{unit}"
    return f"{value_us:g} µs"


def axes_of_threads(ax, threads: "list[int]", unit: str) -> None:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(threads))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.set_xlim(threads[0] / 1.15, threads[-1] * 1.15)
    ax.set_xlabel(unit)


def values_log(ax, formatter) -> None:
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    subs = (1,) if high / low > 300 else (1, 2, 5) if high / low < 30 else (1, 3)
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=subs))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(formatter))


def spread(wanted: "list[float]", gap: float, low: float, high: float) -> "list[float]":
    """Moves positions apart, in their order, so that they differ by at least @gap."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [wanted[i] for i in order]
    for _ in range(200):
        moved = False
        for i in range(1, len(placed)):
            short = gap - (placed[i] - placed[i - 1])
            if short > 0.01:
                placed[i - 1] -= short / 2
                placed[i] += short / 2
                moved = True
        if placed and placed[0] < low:
            placed = [p + low - placed[0] for p in placed]
        if placed and placed[-1] > high:
            placed = [p - (placed[-1] - high) for p in placed]
        if not moved:
            break
    out = [0.0] * len(wanted)
    for position, i in zip(placed, order):
        out[i] = position
    return out


def label_ends(ax, ends: "list[tuple]") -> None:
    """Labels each line's end, right of the axes, without overlaps.  @ends: x, y, text, colour, weight."""
    if not ends:
        return
    fig = ax.figure
    fig.canvas.draw()
    pixels = [ax.transData.transform((x, y)) for x, y, *_ in ends]
    box = ax.get_window_extent()
    gap = LABEL_GAP_POINTS * fig.dpi / 72
    ys = spread([p[1] for p in pixels], gap, box.y0 + gap / 2, box.y1 - gap / 4)
    for (x, y, text, colour, weight), place in zip(ends, ys):
        ax.annotate(text, xy=(x, y), xycoords="data",
                    xytext=(1.03, (place - box.y0) / box.height), textcoords="axes fraction",
                    color=colour, fontweight=weight, va="center", ha="left", annotation_clip=False,
                    fontsize=10,
                    arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6,
                                "shrinkA": 1, "shrinkB": 4})


def others_words(points: list) -> str:
    used = [p.get("cpu_used_by_others") for p in points if p.get("cpu_used_by_others") is not None]
    if not used:
        return ""
    if max(used) < 0.05:
        return "nothing else ran"
    noisy = sum(bool(p.get("noisy")) for p in points)
    return (f"other programs used {statistics.median(used):.2g} processors, at most {max(used):.2g}"
            + (f" ({noisy} of {len(points)} points noisy)" if noisy else ""))


def filling_words(points: list) -> str:
    took = [p.get("fill_seconds") for p in points if p.get("fill_seconds")]
    text = "page cache filled before the clock starts"
    return f"{text} ({statistics.median(took):.1f} s)" if took else text


def size_words(size: str) -> str:
    """Formats "1G" as "1 GiB"."""
    return f"{size[:-1]} {size[-1]}iB" if size[-1:] in "KMGT" and size[:-1].isdigit() else size


def subtitle(about: dict, points: list, family: str) -> str:
    first = points[0].name
    memory = about.get("memory", "")
    size = "64 MiB a thread" if family == "weak" else f"{size_words(memory)} in all" if memory else ""
    reps = about.get("repetitions", 1)
    touch = f"each page touched once ({first.op}, {first.order})"
    line1 = ", ".join(filter(None, [size, touch, filling_words(points)]))
    line2 = ", ".join(filter(None, [
        machine.words(about.get("machine", {})),
        f"medians of {reps} alternating runs" if reps > 1 else "one run each",
        others_words(points), about.get("date", "")]))
    return f"{line1}\n{line2}"


def wrapped(text: str, width_inches: float) -> str:
    """Wraps text to the width of a figure."""
    return "\n".join(textwrap.fill(line, int(width_inches * 12.5)) for line in text.split("\n"))


def panels(family_points: list, about: dict, title: str, size: "tuple[float, float]"):
    """Creates a figure with one panel per density.  Returns figure, [(density, axes)]."""
    densities = sorted({p.name.density for p in family_points})
    width = size[0] if len(densities) > 1 else size[0] * 0.62
    words = wrapped(subtitle(about, family_points, family_points[0].name.family), width)
    # Space for the title, the lines of text and the panels' titles.
    top = 1 - (0.95 + 0.2 * (words.count("\n") + 1)) / size[1]
    fig, axes = plt.subplots(1, len(densities), figsize=(width, size[1]), sharey=True, squeeze=False)
    fig.suptitle(title, x=0.01, y=0.985, ha="left", fontsize=15, fontweight="bold")
    fig.text(0.01, 0.925, words, ha="left", va="top", fontsize=9.5, color="#444444", linespacing=1.5)
    fig.subplots_adjust(left=0.07 if len(densities) > 1 else 0.1,
                        right=0.84 if len(densities) > 1 else 0.73, top=top,
                        bottom=0.15 if len(densities) > 1 else 0.18, wspace=0.66)
    for density, ax in zip(densities, axes[0]):
        ax.set_title(density_words(density)[0].upper() + density_words(density)[1:] + " touched",
                     loc="left")
        ax.tick_params(labelleft=True)
    return fig, list(zip(densities, axes[0]))


def unit_of(family: str) -> str:
    return "vCPUs" if family == "kvm" else "threads that touch"


def draw_lines(ax, family: str, density: int, points: list, counter: str) -> "list[tuple]":
    """Plots every design's medians, and the range of its runs.  Returns the line ends, for labels."""
    ends = []
    for (f, design, d), series in series_of(points).items():
        xs, ys = series.medians(counter)
        if (f, d) != (family, density) or not xs:
            continue
        style = look(design)
        ax.plot(xs, ys, **style)
        _, low, high = series.ranges(counter)
        if low != high:
            ax.fill_between(xs, low, high, color=style["color"], alpha=0.12, linewidth=0)
        weight = "bold" if design in OURS else "normal"
        ends.append((xs[-1], ys[-1], label(design), style["color"], weight))
    return ends


def draw_published(ax, most: int) -> "list[tuple]":
    """Plots the published curves up to @most threads.  Returns the line ends, for labels."""
    xs = [n for n in published.THREADS if n <= most]
    ends = []
    for name, dash in zip(published.CURVES, ((0, (5, 2)), (0, (1.5, 1.5)))):
        ys = published.rates(name)[:len(xs)]
        ax.plot(xs, ys, color=PUBLISHED, linewidth=1.1, linestyle=dash, zorder=2)
        ends.append((xs[-1], ys[-1], f"{name}, 256 cores*", PUBLISHED, "normal"))
    return ends


def rate_picture(family: str, about: dict, points: list):
    title = "Pages a second that threads touch for the first time"
    if family == "kvm":
        title = "Pages a second that vCPUs touch for the first time"
    fig, parts = panels(points, about, title, (13, 5.6))
    threads = sorted({p.name.threads for p in points})
    ends = {}
    for density, ax in parts:
        ends[density] = draw_lines(ax, family, density, points, "pages_per_second")
        if density == 1:
            ends[density] += draw_published(ax, threads[-1])
        axes_of_threads(ax, threads, unit_of(family))
        if ax is parts[0][1]:
            ax.set_ylabel("pages/s, all together")
    for density, ax in parts:
        values_log(ax, value_text)
        label_ends(ax, ends[density])
    note = "Higher is better.  Baseline: the same mapping of the same page cache with no userfaultfd (plain kernel)."
    if 1 in ends:
        note += f"\n* {published.SOURCE}."
    fig.text(0.01, 0.012, wrapped(note, 1.12 * fig.get_size_inches()[0]), fontsize=8.5, color="#555555", va="bottom")
    return fig


def cpu_picture(family: str, about: dict, points: list):
    fig, parts = panels(points, about, "CPU time that a touched page costs", (13, 5.6))
    threads = sorted({p.name.threads for p in points})
    ends = {}
    for density, ax in parts:
        ends[density] = draw_lines(ax, family, density, points, "cpu_us_per_page")
        axes_of_threads(ax, threads, unit_of(family))
        if ax is parts[0][1]:
            ax.set_ylabel("user and system time of the process, a page")
    for density, ax in parts:
        values_log(ax, time_text)
        label_ends(ax, ends[density])
    note = "Lower is better.  Baseline: the same mapping of the same page cache with no userfaultfd (plain kernel)."
    fig.text(0.01, 0.012, wrapped(note, 1.12 * fig.get_size_inches()[0]), fontsize=8.5, color="#555555", va="bottom")
    return fig


PERCENTILES = (("touch_p50_us", "half of all touches"), ("touch_p99_us", "99 % of all touches"),
               ("touch_p999_us", "99.9 % of all touches"))


def latency_picture(family: str, about: dict, points: list):
    densities = sorted({p.name.density for p in points})
    fig, axes = plt.subplots(len(densities), 3, figsize=(13, 1.9 + 3.4 * len(densities)), sharey="row",
                             squeeze=False)
    fig.suptitle("How long a first touch takes", x=0.01, y=0.99, ha="left", fontsize=15,
                 fontweight="bold")
    height = fig.get_size_inches()[1]
    fig.text(0.01, 1 - 0.42 / height, wrapped(subtitle(about, points, family), 13), ha="left",
             va="top", fontsize=9.5, color="#444444", linespacing=1.5)
    fig.subplots_adjust(left=0.07, right=0.985, top=1 - 1.75 / height, bottom=0.75 / height,
                        hspace=0.5, wspace=0.12)
    threads = sorted({p.name.threads for p in points})
    for row, density in zip(axes, densities):
        for ax, (counter, words) in zip(row, PERCENTILES):
            draw_lines(ax, family, density, points, counter)
            axes_of_threads(ax, threads, unit_of(family))
            first = density_words(density)
            ax.set_title(f"{first[0].upper()}{first[1:]}: {words}", loc="left", fontsize=11)
        values_log(row[0], time_text)
        row[0].set_ylabel("is over within")
    designs = list(dict.fromkeys(design for _, design, _ in series_of(points)))
    handles = [plt.Line2D([], [], label=label(d), **look(d)) for d in designs]
    fig.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, 1 - 0.95 / height),
               ncol=min(len(handles), 5), frameon=False, fontsize=10, columnspacing=1.4, handlelength=1.8)
    fig.text(0.01, 0.1 / height, "Lower is better.  Over all touches, those of pages that a window has mapped "
             "before included; with more threads than processors, waiting for a processor too.",
             fontsize=8.5, color="#555555", va="bottom")
    return fig


PICTURES = {"rate": rate_picture, "cpu": cpu_picture, "latency": latency_picture}


def has(points: list, counter: str) -> bool:
    return any(p.get(counter) is not None for p in points)


def all_pictures(folder: str, about: dict, points: list) -> "list[str]":
    """Draws all pictures for which there are points.  Returns their paths."""
    needs = {"rate": "pages_per_second", "cpu": "cpu_us_per_page", "latency": "touch_p50_us"}
    paths = []
    for family in sorted({p.name.family for p in points}):
        of_family = [p for p in points if p.name.family == family]
        prefix = "" if family == "touch" else f"{family}-"
        for what, draw in PICTURES.items():
            if not has(of_family, needs[what]):
                continue
            fig = draw(family, about, of_family)
            for suffix in ("svg", "png"):
                path = os.path.join(folder, f"{prefix}{what}.{suffix}")
                metadata = {"Date": None} if suffix == "svg" else None
                fig.savefig(path, dpi=PNG_DPI, metadata=metadata)
                paths.append(path)
            plt.close(fig)
    return paths
