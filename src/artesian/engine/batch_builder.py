"""Turns a schedule into the arrays of a `Batch`."""

from itertools import groupby

import numpy as np
import numpy.typing as npt

from artesian.engine.batch import Batch
from artesian.engine.offload import RemoteRows
from artesian.engine.scheduler import Schedule
from artesian.engine.sequence import has_answer

_REMOTE_TIMEOUT_S = 2.0
"""A peer that has not attended for a step's rows for so long has failed."""
I32 = npt.NDArray[np.int32]


class BatchBuilder:
    """Fills arrays that it owns: a batch is valid until the next one is built."""

    def __init__(self, max_num_batched_tokens: int, block_size: int, block_tables: I32) -> None:
        self._tokens = np.zeros(max_num_batched_tokens, np.int32)
        self._positions = np.zeros(max_num_batched_tokens, np.int32)
        self._counting = np.arange(block_tables.shape[1] * block_size + 1, dtype=np.int32)
        self._block_size = block_size
        self._block_tables = block_tables

    def build(self, schedule: Schedule) -> Batch:
        """The batch of `schedule`, with logits of every sequence that is computed to its end (its
        last row), of prompts whose log probabilities are wanted (all rows of the chunk), and of
        drafts and what verifies them (all rows)."""
        row = 0
        row_starts = [0]
        context_lens = []
        slots = []
        logit_rows: list[int] = []
        tokens, positions = self._tokens, self._positions
        for sequence, num in zip(schedule.sequences, schedule.num_tokens, strict=True):
            start = sequence.num_computed
            drafts = sequence.drafts
            if drafts is not None and drafts.is_drafting:
                start += drafts.num
            end = start + num
            if num == 1:
                tokens[row] = sequence.tokens[start]
                positions[row] = start
            else:
                tokens[row : row + num] = sequence.tokens[start:end]
                positions[row : row + num] = self._counting[start:end]
            if sequence.needs_prompt_logprobs or (drafts is not None and drafts.is_open):
                logit_rows.extend(range(row, row + num))
            elif has_answer(sequence, end):
                logit_rows.append(row + num - 1)
            row += num
            row_starts.append(row)
            context_lens.append(end)
            slots.append(sequence.slot)
        num_blocks = -(-max(context_lens) // self._block_size)
        return Batch(
            tokens=tokens[:row],
            positions=positions[:row],
            row_starts=np.array(row_starts, np.int32),
            context_lens=np.array(context_lens, np.int32),
            block_tables=self._block_tables[slots, :num_blocks],
            logit_rows=np.array(logit_rows, np.int32),
            gates=[
                (index, gate)
                for index, sequence in enumerate(schedule.sequences)
                if sequence.onboarding is not None
                for gate in sequence.onboarding.gates
            ],
            timeout_s=schedule.timeout_s,
            pushes=[
                (index, sequence.state.writer)
                for index, sequence in enumerate(schedule.sequences)
                if sequence.state.writer is not None
            ],
            remotes=_remotes(schedule),
            sparse=[
                (index, sequence.attends)
                for index, sequence in enumerate(schedule.sequences)
                if sequence.attends is not None
            ],
            audit=schedule.audits,
            probe=schedule.probe,
            skips=[
                (index, sequence.skip)
                for index, sequence in enumerate(schedule.sequences)
                if sequence.skip is not None
            ],
        )


def _remotes(schedule: Schedule) -> list[RemoteRows]:
    """Rows of the sequences that peers attend for, which are the last ones, by peer."""
    places = [(s.place, s.num_computed) for s in schedule.sequences if s.place is not None]
    found = []
    for _, group in groupby(places, key=lambda pair: id(pair[0].peer)):
        pairs = list(group)
        rows = np.array([(*place.name, position) for place, position in pairs], np.uint32)
        found.append(RemoteRows(pairs[0][0].peer, rows, _REMOTE_TIMEOUT_S))
    return found
