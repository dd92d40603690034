import re

import httpx

from artesian import __version__
from tests.api.conftest import RunningServer, StartServer, until


def test_probes(server: RunningServer) -> None:
    assert server.http.get("/health").json() == {"status": "ok"}
    assert server.http.get("/ready").json() == {"status": "ready"}
    assert server.http.get("/version").json() == {"version": __version__}


def test_models(server: RunningServer) -> None:
    (model,) = server.openai.models.list().data
    assert model.id == "toy" and model.model_dump()["max_model_len"] == 4096
    assert server.openai.models.retrieve("toy").id == "toy"
    assert server.http.get("/v1/models/other").status_code == 404


def test_metrics_count_what_happens(server: RunningServer) -> None:
    name = "artesian_e2e_request_latency_seconds_count"
    before = server.metric(name)
    server.http.post("/v1/completions", json={"prompt": "abc", "max_tokens": 5})
    assert server.metric(name) == before + 1
    text = server.http.get("/metrics").text
    assert server.metric("artesian_generation_tokens_total") >= 5
    assert 'artesian_request_success_total{finished_reason="length"}' in text
    ours = set(re.findall(r"^# TYPE artesian_(\S+)", text, re.M))
    theirs = set(re.findall(r"^# TYPE vllm:(\S+)", text, re.M))
    assert ours == theirs
    assert {
        *("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"),
        *("prefix_cache_queries_total", "prefix_cache_hits_total", "prompt_tokens_total"),
        *("generation_tokens_total", "time_to_first_token_seconds"),
        *("inter_token_latency_seconds", "e2e_request_latency_seconds"),
        "request_queue_time_seconds",
    } <= ours


def test_vllms_names_are_asked_for(start_server: StartServer) -> None:
    assert "vllm:" not in start_server().http.get("/metrics").text


def test_a_name_of_ones_own(start_server: StartServer) -> None:
    server = start_server(served_model_name="mine")
    assert server.openai.models.list().data[0].id == "mine"
    answer = server.openai.completions.create(model="mine", prompt="abc", max_tokens=1)
    assert answer.model == "mine"


def test_the_start_is_told(start_server: StartServer) -> None:
    log = start_server(served_model_name="mine").log()
    assert re.search(r"started +in \d+\.\d\d s \(load 0\.00 s\)", log)
    assert re.search(r"memory +KV blocks 1\.0 MiB", log)
    assert re.search(r"API +http://127\.0\.0\.1:\d+/v1", log)


def test_requests_are_logged_in_one_line(start_server: StartServer) -> None:
    server = start_server()
    server.http.get("/nowhere%0aINFO")
    server.http.post("/v1/completions", json={"prompt": "abc", "max_tokens": 2})
    until(lambda: "completion_tokens=" in server.log())
    log = server.log()
    assert re.search(
        r"INFO POST /v1/completions 200 \d+ms id=cmpl-\w+ "
        r"prompt_tokens=4 cached_tokens=0 completion_tokens=2\n",
        log,
    )
    assert re.search(r"GET /nowhere\\nINFO 404", log)
    assert "/health" not in log


def test_the_description_is_complete(server: RunningServer) -> None:
    schema = server.http.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        *("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{model}"),
        *("/v1/traces", "/v1/traces/{name}"),
        *("/v1/sessions", "/v1/cache/explain", "/v1/sessions/{session_id}"),
        *(f"/v1/sessions/{{session_id}}/{verb}" for verb in ("pin", "unpin", "resume")),
        *("/v1/cluster", "/v1/cluster/workers", "/v1/cluster/workers/{worker_id}"),
        *(f"/v1/cluster/workers/{{worker_id}}/{verb}" for verb in ("drain", "role")),
        *("/tokenize", "/detokenize", "/health", "/ready", "/version", "/metrics"),
    }
    assert "422" not in schema["paths"]["/tokenize"]["post"]["responses"]


def test_the_page_is_there_unless_turned_off(
    server: RunningServer, start_server: StartServer
) -> None:
    page = start_server(ui=True, api_key="secret")
    response = httpx.get(page.url + "/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert httpx.get(page.url + "/static/nothing").json()["error"]["type"] == (
        "invalid_request_error"
    )
    assert server.http.get("/").status_code == 404
