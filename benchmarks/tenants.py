"""Whether a tenant can tell by timing what another one has asked.

    make bench-tenants

One tenant has prompts computed. Another one, with a salt of its own, then times the same prompts
and others that nobody has asked, in turn. If it could tell them apart, it would learn what the
first one has asked: so the two kinds should be ordered by chance alone. The first tenant's own
second requests show what could be seen.
"""

import argparse
import random
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import report
from conversations import FIRST_ID, LAST_ID
from machine import describe
from multiturn import serving
from report import Row

NUM_TOKENS = 600
OWN, OTHERS, NOBODYS = "its own", "another tenant's", "nobody's"
MOST_BIAS = 0.1
"""Sixty rounds leave about 0.05 to chance (one standard deviation of the share)."""
console = report.make_console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    machine = describe()
    source = random.Random(0)
    times: dict[str, list[float]] = {OWN: [], OTHERS: [], NOBODYS: []}
    with (
        TemporaryDirectory(prefix="artesian-bench-") as directory,
        serving(options.model, context_cache_dir=Path(directory) / "kv") as server,
    ):
        for number in range(options.rounds):
            asked, fresh = _prompt(source), _prompt(source)
            server.turn_s(asked, 1, salt="first")
            kinds = [(OTHERS, asked, "second"), (NOBODYS, fresh, "second")]
            source.shuffle(kinds)
            for kind, prompt, salt in [*kinds, (OWN, asked, "first")]:
                times[kind].append(server.turn_s(prompt, 1, salt=salt)[0] * 1e3)
            if (number + 1) % 20 == 0:
                console.print(f"round {number + 1} of {options.rounds}")
    rows = _rows(times)
    report.print_table("what a second tenant sees", rows, ["Artesian", NOBODYS], console)
    console.print(f"written to {report.write('tenants', rows, machine)}")


def _rows(times: dict[str, list[float]]) -> list[Row]:
    nobodys = statistics.median(times[NOBODYS])
    rows = []
    for kind in (OWN, OTHERS):
        median = statistics.median(times[kind])
        rows.append(
            Row(
                subject=kind,
                metric=f"first token of a prompt of {kind}",
                value=median,
                unit="ms",
                baseline=NOBODYS,
                baseline_value=nobodys,
                better="less",
                values={"Artesian": median, NOBODYS: nobodys},
            )
        )
        share = _share_below(times[kind], times[NOBODYS])
        bias = abs(share - 0.5)
        rows.append(
            Row(
                subject=kind,
                metric=f"pairs in which {kind} is the quicker one, distance from a half",
                value=bias,
                unit="share",
                baseline="a half" if kind == OTHERS else None,
                baseline_value=1.0 if kind == OTHERS else None,
                better="less",
                target=MOST_BIAS if kind == OTHERS else None,
                values={"Artesian": bias},
            )
        )
    return rows


def _share_below(some: list[float], others: list[float]) -> float:
    """Of all pairs, the share in which the first is less (Mann and Whitney's U over its range)."""
    return sum(a < b for a in some for b in others) / (len(some) * len(others))


def _prompt(source: random.Random) -> list[int]:
    return [source.randrange(FIRST_ID, LAST_ID) for _ in range(NUM_TOKENS)]


if __name__ == "__main__":
    main()
