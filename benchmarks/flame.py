"""A flame graph of a worker's loop, from stacks as `py-spy record --format raw` writes them.

    python -m benchmarks.flame STACKS SVG

Each box is a function, as wide as its share of the samples, over its caller; hover to read it whole. Only what runs in the loop is drawn.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

WIDTH, ROW, NARROWEST = 1200.0, 17, 1.5
COLOURS = {"worker": "#e07a3f", "asyncio": "#7fa7c9", "prometheus_client": "#9c8fc0", "structlog": "#b0a34c"}
OTHER = "#b9b9b9"
LOOP = "Runner.run "


@dataclass(slots=True)
class Frame:
    """A function as called from there; `count` samples were in it or below."""

    count: int = 0
    called: dict[str, Frame] = field(default_factory=dict)


def main() -> int:
    """Read stacks, write the picture."""
    root = tree(Path(sys.argv[1]).read_text(encoding="utf-8"))
    boxes = list(drawn(root, "the loop", 0.0, 0, WIDTH / max(root.count, 1)))
    height = (max(row for row, _ in boxes) + 1) * ROW
    body = "\n".join(box.replace("@y@", str(height - (row + 1) * ROW)) for row, box in boxes)
    Path(sys.argv[2]).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height}" font-family="sans-serif" font-size="11">\n{body}\n</svg>\n',
        encoding="utf-8",
    )
    return 0


def tree(stacks: str) -> Frame:
    """The stacks of the loop put together; a frame is its function and file, whatever the line."""
    root = Frame()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        start = next((place for place, frame in enumerate(frames) if frame.startswith(LOOP)), None)
        if start is None:
            continue
        at = root
        at.count += int(count)
        for frame in frames[start + 1 :]:
            at = at.called.setdefault(frame, Frame())
            at.count += int(count)
    return root


def drawn(frame: Frame, name: str, left: float, row: int, scale: float) -> Iterator[tuple[int, str]]:
    """A frame's box and those of all that it called, each with its row from the bottom."""
    width = frame.count * scale
    if width < NARROWEST:
        return
    folder = re.search(r"\((?:.*/)?(worker|asyncio|prometheus_client|structlog)/", name)
    colour = COLOURS.get(folder[1], OTHER) if folder else OTHER
    shown = escape(name.partition(" (")[0][: int(width / 6.5)])
    told = escape(f"{name}: {100 * width / WIDTH:.1f} %")
    yield (
        row,
        (
            f'<g><title>{told}</title><rect x="{left:.1f}" y="@y@" width="{width:.1f}" height="{ROW - 1}" fill="{colour}"/>'
            f'<text x="{left + 2:.1f}" y="@y@" dy="12">{shown}</text></g>'
        ),
    )
    for called, one in sorted(frame.called.items()):
        yield from drawn(one, called, left, row + 1, scale)
        left += one.count * scale


if __name__ == "__main__":
    sys.exit(main())
