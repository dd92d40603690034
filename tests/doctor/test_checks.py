"""Findings and their hints."""

import socket
from pathlib import Path

import pytest

from artesian.config import EngineConfig, ServerConfig
from artesian.doctor import checks, examine


def test_a_healthy_machine_has_no_errors() -> None:
    findings = list(examine(ServerConfig(port=0)))
    assert [f for f in findings if f.status == "error"] == []
    assert {"python", "kernels", "cpu", "memory", "port"} <= {f.name for f in findings}


def test_port_in_use() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        finding = checks.check_port("127.0.0.1", listener.getsockname()[1])
    assert finding.status == "error"
    assert "in use" in finding.detail
    assert "--port" in finding.hint


def test_host_that_is_not_ours() -> None:
    assert checks.check_port("192.0.2.1", 0).status == "error"


def test_misspelt_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTESIAN_PROT", "1")
    finding = checks.check_environment()
    assert finding.status == "warning"
    assert finding.hint == "did you mean ARTESIAN_PORT?"


def test_huge_pages_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "enabled"
    path.write_text("always madvise [never]\n")
    monkeypatch.setattr(checks, "HUGE_PAGES", path)
    assert checks.check_huge_pages().status == "warning"


def test_a_model_and_its_memory(smollm2_path: Path) -> None:
    config = EngineConfig(model=str(smollm2_path))
    findings = {f.name: f for f in examine(ServerConfig(port=0), config)}
    assert findings["model"].detail.endswith("llama, 30 layers")
    assert "KV cache up to" in findings["memory plan"].detail
    greedy = config.model_copy(update={"kv_cache_memory_bytes": 1 << 50})
    findings = {f.name: f for f in examine(ServerConfig(port=0), greedy)}
    assert findings["memory plan"].status == "error"
    assert "there is room for" in findings["memory plan"].detail


def test_a_model_that_is_not_there() -> None:
    findings = {f.name: f for f in examine(ServerConfig(port=0), EngineConfig(model="nope"))}
    assert findings["model"].status == "error"
    assert "memory plan" not in findings
