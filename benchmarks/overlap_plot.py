"""The timeline of one turn as SVG: what each layer waits for, and when."""

from dataclasses import dataclass

from artesian.context.base import Move
from artesian.loader.native import LayerTime

WIDTH, LEFT, TOP, ROW, STRIP = 860, 64, 46, 9, 26
COLORS = {"loading": "#4c78a8", "waiting": "#d9d9d9", "computing": "#f58518", "saving": "#54a24b"}
MOST_TICKS = 9


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was noted of a turn that began at `start_s`; bytes of blocks say which layers moved."""

    start_s: float
    num_layers: int
    block_bytes: int
    times: list[LayerTime]
    moves: list[Move]

    def loads(self) -> list[tuple[int, int, float, float]]:
        """First layer, last layer, begin and end in ms of each stage of the load."""
        stages: dict[tuple[int, int], list[Move]] = {}
        for move in self.moves:
            if not move.is_save:
                stages.setdefault((move.first, move.end), []).append(move)
        layer_bytes = self.block_bytes // self.num_layers
        return [
            (
                first // layer_bytes,
                -(-end // layer_bytes) - 1,
                self.ms(min(move.start_s for move in moves)),
                self.ms(max(move.end_s for move in moves)),
            )
            for (first, end), moves in sorted(stages.items())
        ]

    def saves(self) -> list[tuple[float, float]]:
        """Begin and end in ms of each block's save."""
        return [(self.ms(m.start_s), self.ms(m.end_s)) for m in self.moves if m.is_save]

    def ms(self, time_s: float) -> float:
        """Since the turn began."""
        return (time_s - self.start_s) * 1e3


def draw(timeline: Timeline) -> str:
    """A row for each layer, and one for saving below."""
    loads, saves = timeline.loads(), timeline.saves()
    ends = [end for *_, end in loads] + [end for _, end in saves]
    ends += [timeline.ms(time.end_s) for time in timeline.times]
    last_ms = max(ends) * 1.02
    scale = (WIDTH - LEFT - 20) / last_ms
    bottom = TOP + timeline.num_layers * ROW
    parts = [_legend(), *_axis(last_ms, scale, bottom + STRIP)]

    def bar(kind: str, begin_ms: float, end_ms: float, y: float, height: float) -> None:
        x, width = LEFT + begin_ms * scale, max((end_ms - begin_ms) * scale, 0.5)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{COLORS[kind]}"/>'
        )

    for first, last, begin, end in loads:
        bar("loading", begin, end, TOP + first * ROW + 1, (last - first + 1) * ROW - 2)
    before = None
    for time in timeline.times:
        y = TOP + time.layer * ROW + 1
        begin, ready = timeline.ms(time.start_s), timeline.ms(time.ready_s)
        bar("computing", begin if before is None else before, begin, y, ROW - 2)
        bar("waiting", begin, ready, y, ROW - 2)
        bar("computing", ready, timeline.ms(time.end_s), y, ROW - 2)
        before = timeline.ms(time.end_s)
    for begin, end in saves:
        bar("saving", begin, end, bottom + 8, STRIP - 14)
    parts.append(_text(LEFT - 8, TOP + ROW, "layer 0", "end"))
    parts.append(_text(LEFT - 8, bottom - 2, f"layer {timeline.num_layers - 1}", "end"))
    parts.append(_text(LEFT - 8, bottom + STRIP - 9, "blocks", "end"))
    height = bottom + STRIP + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="{WIDTH}" height="{height}" '
        f'fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _legend() -> str:
    parts = []
    for index, (kind, color) in enumerate(COLORS.items()):
        x = LEFT + index * 110
        parts.append(f'<rect x="{x}" y="16" width="14" height="10" fill="{color}"/>')
        parts.append(_text(x + 20, 25, kind, "start"))
    return "\n".join(parts)


def _axis(last_ms: float, scale: float, bottom: float) -> list[str]:
    steps = [base * 10**power for power in range(5) for base in (1, 2, 5)]
    step = next(step for step in steps if last_ms / step <= MOST_TICKS)
    parts = []
    for ms in range(0, int(last_ms) + 1, step):
        x = LEFT + ms * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}" stroke="#eeeeee"/>'
        )
        parts.append(_text(x, bottom + 14, str(ms), "middle"))
    parts.append(_text(WIDTH / 2, bottom + 32, "ms since the request", "middle"))
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
