import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artesian.config import ServerConfig
from artesian.engine.base import (
    InvalidRequestError,
    QueueFullError,
    Request,
    RequestOutput,
    SamplingParams,
)
from artesian.worker.base import (
    InternalEngineError,
    RequestDeadlineError,
    SlowClientError,
    WorkerDiedError,
    WorkerUnavailableError,
)
from artesian.worker.stream import RequestStream
from tests.worker.conftest import StartSupervisor
from tests.worker.toy import continuation

BUFFER_TOKENS = 10_000


def request(prompt: str, request_id: str = "r", **sampling: object) -> Request:
    sampling.setdefault("max_tokens", 8)
    return Request(
        request_id=request_id,
        prompt_token_ids=list(prompt.encode()),
        sampling=SamplingParams(**sampling),  # type: ignore[arg-type]
    )


async def collect(stream: RequestStream) -> list[RequestOutput]:
    outputs: list[RequestOutput] = []
    left = stream.num_sequences
    while left:
        for output in await stream.get():
            outputs.append(output)
            left -= output.finish_reason is not None
    return outputs


def text_of(outputs: list[RequestOutput], index: int = 0) -> str:
    return "".join(output.text for output in outputs if output.index == index)


async def test_a_request_runs_in_the_worker(start_supervisor: StartSupervisor) -> None:
    supervisor = await start_supervisor()
    assert supervisor.info is not None and supervisor.info.model_name == "toy"
    assert supervisor.pid != os.getpid()
    outputs = await collect(await supervisor.submit(request("ab", max_tokens=30), BUFFER_TOKENS))
    assert text_of(outputs) == continuation("ab", 30)
    assert outputs[-1].finish_reason == "length"
    assert supervisor.num_in_flight == 0


async def test_errors_of_one_request_leave_the_worker_alone(
    start_supervisor: StartSupervisor,
) -> None:
    supervisor = await start_supervisor()
    with pytest.raises(InvalidRequestError, match="!invalid"):
        await supervisor.submit(request("!invalid"), BUFFER_TOKENS)
    with pytest.raises(InternalEngineError, match="crash in add_request"):
        await supervisor.submit(request("!crash"), BUFFER_TOKENS)
    outputs = await collect(await supervisor.submit(request("!fail"), BUFFER_TOKENS))
    assert [(o.finish_reason, o.error) for o in outputs] == [("error", "boom")]
    assert supervisor.num_restarts == 0 and supervisor.num_in_flight == 0


@pytest.mark.parametrize("n", [1, 3])
async def test_a_killed_worker_costs_a_retry_and_no_token(
    start_supervisor: StartSupervisor, n: int
) -> None:
    supervisor = await start_supervisor("toy:5")
    first_pid = supervisor.pid
    assert first_pid is not None
    stream = await supervisor.submit(request("ab", n=n, max_tokens=60), BUFFER_TOKENS)
    outputs: list[RequestOutput] = []
    while len(outputs) < 20 * n:
        outputs += await stream.get()
    os.kill(first_pid, signal.SIGKILL)
    outputs += await collect(stream)
    for index in range(n):
        tokens = [t for o in outputs if o.index == index for t in o.token_ids]
        assert len(tokens) == 60
        assert text_of(outputs, index) == continuation("ab", 60, index)
    assert supervisor.num_restarts == 1 and supervisor.pid != first_pid


async def test_a_request_that_kills_two_workers_gets_an_error(
    start_supervisor: StartSupervisor,
) -> None:
    supervisor = await start_supervisor()
    stream = await supervisor.submit(request("!die"), BUFFER_TOKENS)
    with pytest.raises(WorkerDiedError, match=r"tried twice.*exited with status 42"):
        await collect(stream)
    outputs = await collect(await supervisor.submit(request("ab", "next"), BUFFER_TOKENS))
    assert text_of(outputs) == continuation("ab", 8)


async def test_a_defect_in_a_step_is_a_retry_with_the_workers_words(
    start_supervisor: StartSupervisor,
) -> None:
    supervisor = await start_supervisor()
    stream = await supervisor.submit(request("!defect"), BUFFER_TOKENS)
    with pytest.raises(WorkerDiedError, match="worker stopped: RuntimeError: a defect in step"):
        await collect(stream)


async def test_a_silent_worker_is_replaced(start_supervisor: StartSupervisor) -> None:
    supervisor = await start_supervisor("toy:5", ServerConfig(worker_heartbeat_timeout_s=1.5))
    stream = await supervisor.submit(request("ab", max_tokens=60), BUFFER_TOKENS)
    outputs = await stream.get()
    assert supervisor.pid is not None
    os.kill(supervisor.pid, signal.SIGSTOP)
    outputs += await collect(stream)
    assert text_of(outputs) == continuation("ab", 60)
    assert supervisor.num_restarts == 1


async def test_a_stuck_step_is_ended(start_supervisor: StartSupervisor) -> None:
    supervisor = await start_supervisor("toy:60000", ServerConfig(worker_step_timeout_s=1.1))
    stream = await supervisor.submit(request("ab"), BUFFER_TOKENS)
    with pytest.raises(WorkerDiedError, match="stuck in one step"):
        await collect(stream)


@pytest.mark.parametrize(
    ("model", "message"),
    [("toy:bad", "toy:bad: no such model"), ("toy:exit", "the worker exited with status 7")],
)
async def test_a_worker_that_cannot_start_is_final(
    start_supervisor: StartSupervisor, model: str, message: str
) -> None:
    supervisor = await start_supervisor(model)
    assert supervisor.state == "failed" and supervisor.failure == message
    assert supervisor.num_restarts == 0
    with pytest.raises(WorkerUnavailableError, match="failed"):
        await supervisor.submit(request("ab"), BUFFER_TOKENS)


async def test_a_worker_whose_process_cannot_be_made_is_final(
    start_supervisor: StartSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    supervisor = await start_supervisor()
    assert supervisor.state == "failed"
    assert supervisor.failure is not None and "/no/such/python" in supervisor.failure


async def test_the_queue_is_bounded(start_supervisor: StartSupervisor) -> None:
    supervisor = await start_supervisor("toy:100", max_num_seqs=2, max_queue_len=3)
    streams = await asyncio.gather(
        *(supervisor.submit(request("ab", str(i), max_tokens=3), BUFFER_TOKENS) for i in range(5))
    )
    with pytest.raises(QueueFullError, match="of at most 5"):
        await supervisor.submit(request("ab", "late"), BUFFER_TOKENS)
    with pytest.raises(InvalidRequestError, match="asks for 6 completions"):
        await supervisor.submit(request("ab", "wide", n=6), BUFFER_TOKENS)
    for outputs in await asyncio.gather(*map(collect, streams)):
        assert text_of(outputs) == continuation("ab", 3)


async def test_an_aborted_request_leaves_the_engine(start_supervisor: StartSupervisor) -> None:
    supervisor = await start_supervisor("toy:5")
    stream = await supervisor.submit(request("ab", max_tokens=4000), BUFFER_TOKENS)
    await stream.get()
    supervisor.abort(stream)
    assert supervisor.num_in_flight == 0
    await until(lambda: supervisor.stats.num_requests_running == 0)
    steps = supervisor.stats.num_steps
    assert steps < 100


async def test_a_slow_reader_is_cut_off(start_supervisor: StartSupervisor) -> None:
    supervisor = await start_supervisor()
    stream = await supervisor.submit(request("ab", max_tokens=4000), 50)
    await until(lambda: stream.finished)
    with pytest.raises(SlowClientError, match="more than 50 tokens unread"):
        await stream.get()
    assert supervisor.num_in_flight == 0
    await until(lambda: supervisor.stats.num_requests_running == 0)


async def test_no_retry_after_the_deadline(start_supervisor: StartSupervisor) -> None:
    supervisor = await start_supervisor("toy:5")
    stream = RequestStream(
        Request(
            request_id="r",
            prompt_token_ids=[1],
            sampling=SamplingParams(),
            timeout_s=0.01,
        ),
        BUFFER_TOKENS,
    )
    time.sleep(0.02)
    with pytest.raises(RequestDeadlineError, match=r"0\.01 s"):
        stream.next_request()
    assert supervisor.state == "ready"


async def test_closing_ends_the_worker_and_its_requests(start_supervisor: StartSupervisor) -> None:
    supervisor = await start_supervisor("toy:5")
    stream = await supervisor.submit(request("ab", max_tokens=4000), BUFFER_TOKENS)
    pid = supervisor.pid
    assert pid is not None and alive(pid)
    await supervisor.close()
    assert not alive(pid)
    with pytest.raises(WorkerUnavailableError, match="shutting down"):
        await collect(stream)


FRONT = """
import asyncio, sys
from artesian.config import EngineConfig, ServerConfig
from artesian.worker.supervisor import Supervisor

async def main():
    config = EngineConfig(model="toy")
    supervisor = Supervisor(config, ServerConfig(), "tests.worker.toy:create_engine")
    supervisor.start()
    await supervisor.wait_ready()
    print(supervisor.pid, supervisor._channel.command_endpoint, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_no_worker_outlives_its_front() -> None:
    front = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FRONT, stdout=asyncio.subprocess.PIPE
    )
    assert front.stdout is not None
    pid, endpoint = (await front.stdout.readline()).decode().split()
    sockets = Path(endpoint.removeprefix("ipc://")).parent
    assert alive(int(pid)) and sockets.stat().st_mode & 0o777 == 0o700
    front.kill()
    await front.wait()
    await until(lambda: not alive(int(pid)))
    await until(lambda: not sockets.exists())


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
