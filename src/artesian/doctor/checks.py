"""All checks, in the order of the report."""

import difflib
import re
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from artesian.config import EngineConfig, ServerConfig
from artesian.config.settings import MODELS, settings_of, unknown_variables
from artesian.doctor.base import Finding, format_bytes
from artesian.doctor.pools import check_pools, check_shared_memory
from artesian.machine import cpu_quota, memory_limit, num_usable_cpus, read_cpu

MIN_FREE_BYTES = 512 << 20
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def examine(
    server_config: ServerConfig, engine_config: EngineConfig | None = None
) -> Iterator[Finding]:
    """Runs every check, those of a model if there is one to serve.

    A check that fails itself is reported as a finding, too.
    """
    checks: tuple[Callable[[], Finding], ...] = (
        check_python,
        check_packages,
        check_kernels,
        check_cpu,
        check_threads,
        check_memory,
        check_huge_pages,
        check_shared_memory,
        check_pools,
        lambda: check_port(server_config.host, server_config.port),
        check_environment,
    )
    for check in checks:
        try:
            yield check()
        except OSError as error:
            yield Finding("check", "warning", f"could not look: {error}")
    if engine_config is not None:
        from artesian.doctor.model import check_model

        yield from check_model(engine_config)


def check_python() -> Finding:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version} ({sys.executable})")


def check_packages() -> Finding:
    """The packages that the base install needs."""
    try:
        requirements = metadata.requires("artesian") or []
    except metadata.PackageNotFoundError:
        return Finding(
            "packages", "warning", "artesian runs from its source tree", "install it: make install"
        )
    missing = []
    num_found = 0
    for requirement in requirements:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
        try:
            metadata.version(name)
            num_found += 1
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "packages",
            "error",
            f"missing: {', '.join(missing)}",
            f"pip install {' '.join(missing)}",
        )
    return Finding("packages", "ok", f"artesian {metadata.version('artesian')}, {num_found} needed")


def check_kernels() -> Finding:
    """The Rust module and the instruction set it chose."""
    try:
        from artesian.ops.isa import available_isas

        isas = available_isas()
    except ImportError as error:
        return Finding(
            "kernels",
            "error",
            f"the native module does not load: {error}",
            "build it: make install",
        )
    if len(isas) == 1:
        return Finding(
            "kernels",
            "warning",
            f"only {isas[0]}",
            "the CPU (or the virtual machine's CPU type) lacks AVX2, FMA or F16C: this is slow",
        )
    return Finding("kernels", "ok", f"{isas[-1]} is used; available: {', '.join(isas)}")


def check_cpu() -> Finding:
    """The processor."""
    cpu = read_cpu()
    return Finding("cpu", "ok", f"{cpu.model_name}: {' '.join(cpu.features) or 'no vector units'}")


def check_threads() -> Finding:
    """How many threads the kernels will use, and why."""
    num_cpus, quota = num_usable_cpus(), cpu_quota()
    limit = "no quota" if quota is None else f"quota of {quota:g} CPUs"
    detail = f"{num_cpus} by default; {read_cpu().num_cores} cores, {limit}"
    if quota is not None and quota < 1:
        return Finding("threads", "warning", detail, "raise the container's CPU limit")
    return Finding("threads", "ok", detail)


def check_memory() -> Finding:
    """The memory limit that the plan for KV blocks starts from."""
    limit = memory_limit()
    detail = (
        f"{format_bytes(limit.available_bytes)} free of {format_bytes(limit.total_bytes)} "
        f"(limit of {limit.source})"
    )
    if limit.available_bytes < MIN_FREE_BYTES:
        hint = "free some, raise the container's limit, or lower --kv-cache-memory-bytes"
        return Finding("memory", "error", detail, hint)
    return Finding("memory", "ok", detail)


def check_huge_pages() -> Finding:
    """Transparent huge pages, which make large weights cheaper to walk over."""
    if not HUGE_PAGES.exists():
        return Finding("huge pages", "ok", "this kernel has none")
    chosen = HUGE_PAGES.read_text().split("[")[-1].split("]")[0]
    if chosen == "never":
        hint = f"decoding is a little faster after: echo madvise > {HUGE_PAGES}"
        return Finding("huge pages", "warning", chosen, hint)
    return Finding("huge pages", "ok", chosen)


def check_port(host: str, port: int) -> Finding:
    """Whether the server could listen."""
    name = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding("port", "error", f"{name}: {reason}", "choose another: --port 0 finds one")
    return Finding("port", "ok", f"{name} is free")


def check_environment() -> Finding:
    """`ARTESIAN_*` variables that nothing reads."""
    unknown = unknown_variables()
    if not unknown:
        return Finding("environment", "ok", "no unknown ARTESIAN_ variables")
    known = [setting.env for model in MODELS for setting in settings_of(model)]
    close = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f"did you mean {close[0]}?" if close else "see docs/reference/settings.md"
    return Finding("environment", "warning", f"unknown: {', '.join(unknown)}", hint)
