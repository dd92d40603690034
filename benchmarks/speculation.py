"""Tokens a second with guesses and without, by context and kind of draft.

    make bench-speculation
    make bench-speculation ARGS='--contexts 8000 --kinds window --lengths 4 --rounds 5'

Each context is a piece of text (*.md, *.txt in --texts, by default this project's own guides), read
once and cached; then the same answer is generated without guesses, with so many guesses at a time,
and with as many as the engine finds to pay, in rounds, one after the other. All answers are
compared token by token. The engine, the layout of its KV and its settings are the same for all.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import report
from artesian import LLM, SamplingParams
from artesian.attention import SparseAttention
from artesian.engine.speculation import Speculator
from artesian.skip import read_calibration
from artesian.skip.policies import MostSimilar
from artesian.speculate import AdaptiveLength, Draft, FixedLength, LengthPolicy
from engines import MODELS, ModelSpec
from machine import ROOT, describe
from report import Row

NUM_THREADS = 2
TARGET = 1.2
MOST = 8
console = report.make_console()


@dataclass(slots=True)
class Runs:
    """Of one way of generating."""

    tokens_per_s: list[float] = field(default_factory=list)
    num_rounds: int = 0
    num_drafted: int = 0
    num_accepted: int = 0

    def note(self) -> str:
        """What became of the guesses."""
        if not self.num_rounds:
            return "none"
        rate = self.num_accepted / self.num_drafted
        return f"{rate:.0%} of {self.num_drafted / self.num_rounds:.1f}"


def drafts(options: argparse.Namespace) -> dict[str, Draft]:
    """The kinds that are compared."""
    budget = options.budget
    kinds = {
        name: Draft(
            SparseAttention(
                selector=name, epsilon=options.epsilon, budget_tokens=budget, min_context_tokens=0
            )
        )
        for name in ("window", "top-k", "progressive")
    }
    if options.calibration is not None:
        calibration = read_calibration(options.calibration)
        left_out = MostSimilar().choose(calibration, options.skipped)
        kinds["skip"] = Draft(skips=left_out)
        kinds["window and skip"] = Draft(kinds["window"].attention, left_out)
    return {name: kinds[name] for name in options.kinds}


def measure(
    spec: ModelSpec, path: Path, options: argparse.Namespace, temperature: float
) -> Iterator[Row]:
    """Rows of one model."""
    kinds = drafts(options)
    length = max(options.contexts) + options.tokens + 64
    settings = {"max_model_len": length, "max_num_seqs": 4, "speculate": "progressive"}
    with LLM(str(path), num_threads=NUM_THREADS, **settings) as llm:
        tokens = llm.tokenizer.encode(_read(options.texts))
        if len(tokens) < max(options.contexts):
            raise SystemExit(f"the texts have {len(tokens)} tokens, {max(options.contexts)} needed")
        speculator = llm.engine.speculator
        assert speculator is not None
        for context in options.contexts:
            prompt = tokens[len(tokens) // 3 :][:context]
            prompt = prompt if len(prompt) == context else tokens[:context]
            found = _compare(llm, speculator, kinds, prompt, options, temperature)
            plain = statistics.median(found["plain"].tokens_per_s)
            for name, runs in found.items():
                if name == "plain":
                    continue
                value = statistics.median(runs.tokens_per_s)
                how = "greedy" if temperature == 0 else f"temperature {temperature:g}"
                yield Row(
                    subject=f"{spec.title}, {how}, {context} tokens",
                    metric=f"{context} tokens, {how}, {name} (right: {runs.note()})",
                    value=value,
                    unit="tokens/s",
                    baseline="plain",
                    baseline_value=plain,
                    target=TARGET,
                    values={"guessing": value, "plain": plain},
                    spread={
                        "guessing": (min(runs.tokens_per_s), max(runs.tokens_per_s)),
                        "plain": (
                            min(found["plain"].tokens_per_s),
                            max(found["plain"].tokens_per_s),
                        ),
                    },
                )


def _compare(
    llm: LLM,
    speculator: Speculator,
    kinds: dict[str, Draft],
    prompt: list[int],
    options: argparse.Namespace,
    temperature: float,
) -> dict[str, Runs]:
    ways: dict[str, tuple[Draft, LengthPolicy]] = {"plain": (Draft(), FixedLength(0))}
    for kind, draft in kinds.items():
        for length in options.lengths:
            ways[f"{kind}, {length} at a time"] = draft, FixedLength(length)
        ways[f"{kind}, as many as pay"] = draft, AdaptiveLength(MOST)
    params = SamplingParams(
        temperature=temperature, seed=1, max_tokens=options.tokens, ignore_eos=True
    )
    llm.generate([prompt], SamplingParams(temperature=0, max_tokens=1))
    found = {name: Runs() for name in ways}
    answers: dict[str, list[int]] = {}
    for _ in range(options.rounds):
        for name, (speculator.draft, speculator.policy) in ways.items():
            answer = _run(llm, prompt, params, found[name])
            if answers.setdefault("any", answer) != answer:
                raise SystemExit(f"{name} gives another answer: {answer} for {answers['any']}")
    return found


def _run(llm: LLM, prompt: list[int], params: SamplingParams, runs: Runs) -> list[int]:
    before = llm.engine.stats()
    answer: list[int] = []
    first = 0.0
    for output in llm.stream(prompt, params):
        first = first or time.perf_counter()
        answer += output.token_ids
    runs.tokens_per_s.append((len(answer) - 1) / (time.perf_counter() - first))
    after = llm.engine.stats()
    runs.num_rounds += after.draft_rounds - before.draft_rounds
    runs.num_drafted += after.drafted_tokens - before.drafted_tokens
    runs.num_accepted += after.accepted_tokens - before.accepted_tokens
    return answer


def _read(folder: Path) -> str:
    paths = sorted([*folder.glob("*.md"), *folder.glob("*.txt")])
    if not paths:
        raise SystemExit(f"{folder} has no *.md or *.txt")
    return "\n\n".join(path.read_text() for path in paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=Path, default=ROOT / "docs", help="folder of *.md, *.txt")
    parser.add_argument("--models", nargs="+", default=["smollm2"])
    parser.add_argument("--contexts", nargs="+", type=int, default=[128, 1000, 4000, 7900])
    parser.add_argument("--kinds", nargs="+", default=["window", "top-k", "progressive"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[2, 4, 6], help="of drafts")
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.0, 0.7])
    parser.add_argument("--budget", type=int, default=256, help="tokens that guesses see")
    parser.add_argument("--epsilon", type=float, default=0.9, help="of progressive drafts")
    parser.add_argument("--calibration", type=Path, help="file of artesian calibrate, to skip")
    parser.add_argument("--skipped", type=int, default=8, help="sublayers that guesses leave out")
    parser.add_argument("--tokens", type=int, default=128, help="of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    rows: list[Row] = []
    for model in MODELS:
        path = model.find() if model.name in options.models else None
        if path is None:
            continue
        for temperature in options.temperatures:
            some = list(measure(model, path, options, temperature))
            report.print_table(model.title, some, ["guessing", "plain"], console)
            rows += some
    chosen = ("budget", "skipped", "epsilon", "tokens", "rounds", "lengths", "contexts")
    extra: dict[str, object] = {name: getattr(options, name) for name in chosen}
    console.print(f"written to {report.write('speculation', rows, machine, extra)}")


if __name__ == "__main__":
    main()
