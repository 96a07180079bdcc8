#!/usr/bin/env python3
"""Draws the curves of `cargo bench --bench scale -- curves` as SVG: benches/plot.py [CSV] [FOLDER].

By default from benches/plots/curves.csv into benches/plots. Needs Python 3.8 and nothing else.
"""
import csv
import math
import pathlib
import sys
from collections import defaultdict

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 40, 55
COLORS = ["#1f5fa8", "#c2571a", "#3b7d3b"]

# file, title, curve, label of the x axis, label of the y axis, measures and what they are called, y scale, factor
PLOTS = [
    ("answer-cpu", "CPU of an answer: SRV, 50 members, UDP size 4096", "members", "members of the zone", "µs",
     [("answer-cpu", "server CPU an answer")], "linear", 1),
    ("memory", "Memory of a member", "members", "members of the zone", "octets",
     [("memory", "registered"), ("memory-asked", "every service asked for"), ("memory-restarted", "after a restart")],
     "linear", 1),
    ("commit", "Commit that changes one member of 50", "members", "members of the zone", "µs",
     [("commit-cpu", "server CPU"), ("commit-latency", "until acknowledged")], "linear", 1),
    ("start", "Start from the store after kill -9", "members", "members of the zone", "ms to the first answer",
     [("start", "")], "log", 1000),
    ("touched", "Commit that changes one member", "touched", "members of the touched service", "µs",
     [("commit-cpu", "server CPU"), ("commit-latency", "until acknowledged")], "linear", 1),
]


def read(path):
    """Points by curve and measure, in order."""
    points = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            points[row["curve"], row["measure"]].append((float(row["x"]), float(row["value"])))
    return {key: sorted(values) for key, values in points.items()}


def linear_ticks(top):
    """From zero to at least `top`, in steps of 1, 2 or 5."""
    step = 10 ** math.floor(math.log10(top / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if top / (step * factor) <= 6)
    return [step * number for number in range(math.ceil(top / step) + 1)]


def log_ticks(low, high):
    """The powers of ten that enclose both."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def place(value, ticks, scale):
    """Where a value stands between the first tick and the last, from 0 to 1."""
    if scale == "log":
        value, ticks = math.log10(value), [math.log10(tick) for tick in ticks]
    return (value - ticks[0]) / (ticks[-1] - ticks[0])


def draw(title, x_label, y_label, series, scale):
    xs = [x for _, points in series for x, _ in points]
    ys = [y for _, points in series for _, y in points]
    x_ticks = log_ticks(min(xs), max(xs))
    y_ticks = log_ticks(min(ys), max(ys)) if scale == "log" else linear_ticks(max(ys))
    across = lambda x: LEFT + place(x, x_ticks, "log") * (WIDTH - LEFT - RIGHT)
    up = lambda y: HEIGHT - BOTTOM - place(y, y_ticks, scale) * (HEIGHT - TOP - BOTTOM)
    text = lambda x, y, content, more="": f'<text x="{x:.1f}" y="{y:.1f}" {more}>{content}</text>'
    line = lambda x1, y1, x2, y2: f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(LEFT, 22, title, 'font-size="14"'),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, f"{x_label} (log)", 'text-anchor="middle"'),
        text(16, (TOP + HEIGHT - BOTTOM) / 2, y_label + (" (log)" if scale == "log" else ""),
             f'text-anchor="middle" transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2:.1f})"'),
    ]
    for tick in x_ticks:
        parts.append(line(across(tick), TOP, across(tick), HEIGHT - BOTTOM))
        parts.append(text(across(tick), HEIGHT - BOTTOM + 18, f"{tick:,.0f}", 'text-anchor="middle"'))
    for tick in y_ticks:
        parts.append(line(LEFT, up(tick), WIDTH - RIGHT, up(tick)))
        parts.append(text(LEFT - 8, up(tick) + 4, f"{tick:,.10g}", 'text-anchor="end"'))
    # Where the data are not, at their end.
    is_low = max(place(points[-1][1], y_ticks, scale) for _, points in series) < 0.5
    first = TOP + 20 if is_low else HEIGHT - BOTTOM - 10 - 16 * (len(series) - 1)
    for number, (label, points) in enumerate(series):
        color = COLORS[number]
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5" fill="{color}"/>' for x, y in points]
        if label:
            parts.append(text(WIDTH - RIGHT - 8, first + 16 * number, label,
                              f'text-anchor="end" fill="{color}" stroke="#fff" stroke-width="3" paint-order="stroke"'))
    return "\n".join(parts + ["</svg>", ""])


def main():
    source = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "plots" / "curves.csv"
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "plots"
    folder.mkdir(exist_ok=True)
    points = read(source)
    for name, title, curve, x_label, y_label, measures, scale, factor in PLOTS:
        series = [(label, [(x, y * factor) for x, y in points.get((curve, measure), [])]) for measure, label in measures]
        series = [(label, values) for label, values in series if values]
        if series:
            (folder / f"{name}.svg").write_text(draw(title, x_label, y_label, series, scale), encoding="utf-8")
            print(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
