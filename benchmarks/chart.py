"""The figures as bars: each as long as its ratio, with a mark at the ratio that is asked for."""

from collections.abc import Sequence
from html import escape

from benchmarks.measure import Figure

ROW, LABELS, SCALE, LONGEST = 24, 520, 200, 2.5

STYLE = """text { font: 13px system-ui, sans-serif; fill: #334 } .good { fill: #2a7d5f } .bad { fill: #b3402e }
.mark { stroke: #334; stroke-width: 2 } .beside { fill: #778 }
@media (prefers-color-scheme: dark) { text { fill: #dde } .beside { fill: #99a } .mark { stroke: #dde } }"""


def chart(figures: Sequence[Figure]) -> str:
    width, height = LABELS + int(SCALE * LONGEST) + 80, ROW * len(figures) + 16
    rows = [_row(figure, 8 + ROW * index) for index, figure in enumerate(figures)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    return "\n".join([head, f"<style>{STYLE}</style>", *rows, "</svg>\n"])


def _row(figure: Figure, top: int) -> str:
    title, middle = figure.title, top + ROW // 2 + 4
    length, mark = (LABELS + SCALE * min(ratio, LONGEST) for ratio in (figure.ratio, figure.least))
    told = f'{escape(title.part)}: {escape(title.work)} <tspan class="beside">/ {escape(title.beside)}</tspan>'
    return (
        f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">{told}</text>'
        f'<rect class="{"good" if figure.holds else "bad"}" x="{LABELS}" y="{top + 4}" width="{length - LABELS:.0f}"'
        f' height="{ROW - 8}"/><line class="mark" x1="{mark:.0f}" x2="{mark:.0f}" y1="{top + 1}" y2="{top + ROW - 1}"/>'
        f'<text x="{length + 6:.0f}" y="{middle}">{figure.ratio:.2f}</text>'
    )
