"""A process that prefills prompts and then attends over them: `MODEL REGION GENERATION`.

Each line of standard input is a JSON list of token ids; the answer is the sequence's slot and
generation. `busy` begins to compute other prompts all the time.
"""

import json
import sys
import threading

from artesian.engine.offload import OffloadExecutor
from tests.engine.offload.side import Side


def main() -> None:
    """Serves until standard input ends."""
    model, region, generation = sys.argv[1:]
    side = Side(model, region)
    runner = side.runner
    executor = OffloadExecutor(side.exchange, runner.runtime, side.arena.memory, int(generation))
    print("ready", flush=True)
    is_over = threading.Event()
    busy: threading.Thread | None = None

    def compute() -> None:
        blocks = side.blocks()
        while not is_over.is_set():
            side.prefill(list(range(100, 200)), blocks)

    for line in sys.stdin:
        if line == "busy\n":
            busy = threading.Thread(target=compute)
            busy.start()
            print("ready", flush=True)
            continue
        tokens = json.loads(line)
        blocks = side.blocks()
        side.prefill(tokens, blocks)
        print(*executor.admit(blocks, len(tokens)), flush=True)
    is_over.set()
    if busy is not None:
        busy.join()
    executor.close()
    side.arena.close()


if __name__ == "__main__":
    main()
