"""The figures as a picture: one bar a row, its median, and a line over the range."""

from collections.abc import Sequence
from html import escape
from statistics import median

from benchmarks.contest import spread
from benchmarks.results import Part

_WIDTH, _LEFT, _RIGHT, _LINE = 760, 200, 170, 22


def picture(parts: Sequence[Part]) -> str:
    """SVG. A part is drawn to a scale of its own; what has no result is left out."""
    drawn, top = [], 10
    for part in parts:
        if any(row.values for row in part.rows):
            lines, top = _part(part, top)
            drawn += lines
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{top}" fill="white"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _part(part: Part, top: int) -> tuple[list[str], int]:
    rows = [row for row in part.rows if row.values]
    longest = max(max(0.0, *row.values) for row in rows) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    drawn = [f'<text x="10" y="{top + 14}" font-weight="bold">{escape(part.title)}</text>']
    top += _LINE
    for row in rows:
        low, middle, high = (
            _LEFT + scale * max(0.0, value)
            for value in (min(row.values), median(row.values), max(row.values))
        )
        said = f"{spread(row.values, part.digits)} {part.unit}"
        drawn += [
            f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(row.label)}</text>',
            f'<rect x="{_LEFT}" y="{top + 4}" width="{middle - _LEFT:.1f}" height="13" '
            'fill="#7aa6c2"/>',
            f'<path d="M{low:.1f} {top + 10.5}H{high:.1f}" stroke="#1d3c50" stroke-width="2"/>',
            f'<text x="{high + 8:.1f}" y="{top + 14}">{escape(said)}</text>',
        ]
        top += _LINE
    return drawn, top + _LINE // 2
