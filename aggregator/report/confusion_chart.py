"""The confusion matrix, on the paper of charts.py: rows are the truth, columns what the model said."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from aggregator.report import paper

FEW = 4
"""So many classes are drawn large, with the share of the row; more of them close together."""
LETTER = 8.0
"""Width of a letter of a name, at the most."""
EDGE, ROW = 118.0, 24.0
"""Left and right of the cells; the height of a row of many classes."""
AXES = "the model's answer (columns), the truth (rows)"

Table = Sequence[Sequence[int]]


def confusion_chart(key: str, title: str, table: Table, names: Sequence[str]) -> Markup:
    """The shade is the share of the row."""
    said = "; ".join(f"truly {names[i]}: " + ", ".join(f"{n} as {names[j]}" for j, n in enumerate(row))
                     for i, row in enumerate(table))  # fmt: skip
    if len(table) > FEW:
        height, body = _close(table, names)
        return paper.svg(key, title, said, paper.WIDTH, height, body)
    return paper.svg(key, title, said, paper.WIDTH, paper.HEIGHT, _large(table, names))


def _large(table: Table, names: Sequence[str]) -> list[str]:
    size = max(len(table), 1)
    side = (paper.HEIGHT - paper.TOP - paper.BOTTOM) / size
    wide = min((paper.WIDTH - EDGE) / size, side * 1.45)
    start = 112 + (paper.WIDTH - EDGE - wide * size) / 2
    body = [paper.text(paper.WIDTH / 2, paper.HEIGHT - 6, AXES, "label mid")]
    for i, row in enumerate(table):
        top = paper.TOP + 18 + i * (side - 4)
        body.append(paper.text(start - 8, top + side / 2 + 2, paper.short(names[i], 14), "tick end"))
        for j, count in enumerate(row):
            body.append(_cell(start + j * wide, top, wide - 4, side - 8, count, sum(row), i == j))
    for j, name in enumerate(names[:size]):
        head = paper.short(name, min(14, int(wide / LETTER)))
        body.append(paper.text(start + (j + 0.5) * wide - 2, paper.TOP + 8, head, "tick mid"))
    return body


def _close(table: Table, names: Sequence[str]) -> tuple[float, list[str]]:
    """The drawing's height and what is in it; a count of 0 is a cell without a figure."""
    wide = (paper.WIDTH - EDGE) / len(table)
    heads = [paper.short(name, 12) for name in names]
    longest = LETTER * max(map(len, heads))
    turned = longest > wide
    above = (longest if turned else LETTER) + 14
    below = above + ROW * len(table)
    body = [paper.text(paper.WIDTH / 2, below + 22, AXES, "label mid")]
    for i, (row, head) in enumerate(zip(table, heads, strict=True)):
        top, across = above + i * ROW, 112 + (i + 0.5) * wide - 1.5
        body.append(paper.text(104, top + ROW / 2 + 3, paper.short(names[i], 14), "tick end"))
        body.append(
            paper.text(across + 4 * turned, above - 7, head, "tick" if turned else "tick mid", turned=turned)
        )
        for j, count in enumerate(row):
            x, share = 112 + j * wide, count / sum(row) if count else 0.0
            body.append(_shade(x, top, wide - 3, ROW - 3, share, i == j))
            if count:
                body.append(paper.text(x + wide / 2 - 1.5, top + ROW / 2 + 2, str(count), "cell small mid"))
    return below + 30, body


def _shade(x: float, y: float, wide: float, high: float, share: float, right: bool) -> str:
    return (
        f'<rect class="bar {"k1" if right else "k2"}" fill-opacity="{0.10 + 0.62 * share:.2f}" x="{x:.1f}" '
        f'y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" rx="{min(5.0, high / 6):.1f}"/>'
    )


def _cell(x: float, y: float, wide: float, high: float, count: int, total: int, right: bool) -> str:
    share = count / total if total else 0.0
    middle, roomy = x + wide / 2, high > 40
    parts = [
        _shade(x, y, wide, high, share, right),
        paper.text(middle, y + high / 2 + (0 if roomy else 5), f"{count:,}", "cell big mid"),
    ]
    if roomy:
        parts.append(paper.text(middle, y + high / 2 + 19, f"{100 * share:.0f} % of row", "cell mid"))
    return "".join(parts)
