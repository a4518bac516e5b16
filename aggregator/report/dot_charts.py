"""Two more charts, of dots on the paper of charts.py: how far probabilities can be trusted, and what each site holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from aggregator.report import paper

Bins = Sequence[tuple[float, float, int]]
"""Mean probability, share right, images."""
MOST_RADIUS = 9.0
LETTER = 8.0
"""Width of a letter in a column's head, at the most."""


def reliability_chart(key: str, title: str, before: Bins, after: Bins) -> Markup:
    """Share right against probability foretold: as the model is (solid), at its temperature (dashed).

    Every dot is a bin; the diagonal is where a probability means what it says.
    """
    side = paper.HEIGHT - paper.TOP - paper.BOTTOM
    start = paper.LEFT + (paper.WIDTH - paper.LEFT - paper.RIGHT - side) / 2
    across, up = (
        paper.Axis(0, 1, start, start + side),
        paper.Axis(0, 1, paper.HEIGHT - paper.BOTTOM, paper.TOP),
    )
    body = [paper.grid(up, [0.0, 0.25, 0.5, 0.75, 1.0], paper.plain_number(0.25), start, start + side)]
    body += [
        paper.text(across.at(x), paper.HEIGHT - paper.BOTTOM + 16, f"{x:g}", "tick mid")
        for x in (0.0, 0.5, 1.0)
    ]
    body += [
        paper.text(start + side / 2, paper.HEIGHT - 6, "probability of the answer", "label mid"),
        paper.text(start - 44, paper.TOP + side / 2, "share right", "label mid turned", turned=True),
    ]
    body.append(paper.path([(across.at(0), up.at(0)), (across.at(1), up.at(1))], "chance"))
    for colour, name, bins in ((1, "as it is", before), (2, "at its temperature", after)):
        drawn = [(across.at(said), up.at(held)) for said, held, _ in bins]
        body += [paper.path(drawn, f"line c{colour}")] if len(drawn) > 1 else []
        body += [
            paper.dot(x, y, f"dot d{colour}", f"{name}: says {said:.2f}, right {held:.2f} ({count:,} images)")
            for (x, y), (said, held, count) in zip(drawn, bins, strict=True)
        ]
    said = "; ".join(f"says {p:.2f}, right {held:.2f}" for p, held, _ in before) or "no images"
    return paper.svg(key, title, said, paper.WIDTH, paper.HEIGHT, body)


def parts_chart(
    key: str, title: str, classes: Sequence[str], sites: Sequence[tuple[str, Mapping[str, int]]]
) -> Markup:
    """A row a site, a column a class; the area of a circle is the number of images."""
    heads = [paper.short(name, 9) for name in classes]
    row, column, left, top = 22.0, max([44.0, *(LETTER * len(head) + 12.0 for head in heads)]), 124.0, 30.0
    most = max((counts.get(name, 0) for _, counts in sites for name in classes), default=0) or 1
    body = [paper.text(left + (j + 0.5) * column, 16, head, "tick mid") for j, head in enumerate(heads)]
    total_at = left + len(classes) * column + 52
    body.append(paper.text(total_at, 16, "images", "tick end"))
    for i, (site, counts) in enumerate(sites):
        y = top + row * i + row / 2
        body.append(paper.text(left - 10, y + 4, paper.short(site, 16), "tick end"))
        for j, name in enumerate(classes):
            count = counts.get(name, 0)
            tip = f"{site}: {count:,} {name}"
            x = left + (j + 0.5) * column
            radius = max(1.2, MOST_RADIUS * (count / most) ** 0.5)
            body.append(paper.dot(x, y, "dot d1" if count else "absent", tip, radius if count else 1.4))
        body.append(paper.text(total_at, y + 4, f"{sum(counts.values()):,}", "tick strong end"))
    said = "; ".join(
        f"{site}: " + ", ".join(f"{counts.get(name, 0)} {name}" for name in classes) for site, counts in sites
    )
    return paper.svg(key, title, said, total_at + 6, top + row * max(len(sites), 1) + 6, body, fixed=True)
