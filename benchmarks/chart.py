"""A chart of the figures: a bar for each ratio, with a mark at its target.

The chart has its own background, so that it fits on any page. It names missed targets in words too.
"""

from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.measure import Figure, grouped

WIDTH, MARGIN, HEAD, PART, ROW, BAR = 760, 24, 64, 36, 44, 14
LONGEST = 2.0
"""The ratio at the full width. Higher ratios show only their number."""
UNIT = (WIDTH - 2 * MARGIN - 210) / LONGEST

STYLE = """.page { fill: #fff; stroke: #d0d7de } text { font: 13px system-ui, sans-serif; fill: #1f2933 }
.title { font-size: 16px; font-weight: 600 } .part { font-weight: 600 } .beside { fill: #5b6672 }
.room { fill: #edf0f3 } .held { fill: #0072b2 } .missed { fill: #e08a00 } .mark { stroke: #1f2933; stroke-width: 3 }
@media (prefers-color-scheme: dark) { .page { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 }
.beside { fill: #9aa5b1 } .room { fill: #21262d } .held { fill: #4aa8e0 } .missed { fill: #f0a83a }
.mark { stroke: #e6edf3 } }"""


def chart(figures: Sequence[Figure]) -> str:
    rows, top = [], HEAD
    for part, group in grouped(figures, lambda title: title.part).items():
        rows.append(_text(MARGIN, top + PART - 12, escape(part), "part"))
        top += PART
        for figure in group:
            rows += _row(figure, top)
            top += ROW
    height = top + MARGIN // 2
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    page = f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", page, *_head(), *rows, "</svg>\n"])


def _head() -> Iterator[str]:
    yield _text(MARGIN, 32, "es_django relative to its floor or peer", "title")
    yield _text(MARGIN, 54, f"1.00 means equal; full width is {LONGEST:.2f}; the mark is the target", "beside")


def _row(figure: Figure, top: int) -> Iterator[str]:
    title, bar = figure.title, top + 20
    length, mark = (UNIT * min(ratio, LONGEST) for ratio in (figure.ratio, figure.least))
    label = f'{escape(title.work)} <tspan class="beside">/ {escape(title.beside)}</tspan>'
    asked = f"target {figure.least:.2f}" if figure.holds else f"missed the target {figure.least:.2f}"
    yield _text(MARGIN, top + 14, label)
    yield _bar("room", UNIT * LONGEST, bar)
    yield _bar("held" if figure.holds else "missed", length, bar)
    yield f'<path class="mark" d="M{MARGIN + mark:.0f} {bar - 3}v{BAR + 6}"/>'
    yield _text(MARGIN + UNIT * LONGEST + 10, bar + 12, f'{figure.ratio:.2f} <tspan class="beside">{asked}</tspan>')


def _bar(kind: str, length: float, top: int) -> str:
    return f'<rect class="{kind}" x="{MARGIN}" y="{top}" width="{length:.0f}" height="{BAR}"/>'


def _text(left: float, bottom: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{left:.0f}" y="{bottom}">{text}</text>'
