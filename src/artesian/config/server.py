"""Settings of the HTTP front and of how it looks after its worker."""

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from artesian.config.sizes import Size


class ServerConfig(BaseModel):
    """Where the server listens, whom it lets in, and its limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    api_key: str | None = Field(
        None,
        repr=False,
        description="key clients must send as 'Authorization: Bearer KEY'; several with commas",
    )
    api_key_weights: str | None = Field(
        None,
        repr=False,
        description="shares of API keys under load: KEY=WEIGHT, several with commas; default: 1",
    )
    max_queue_len_per_key: int | None = Field(
        None,
        ge=1,
        description="requests of one API key that may wait; default: max_queue_len, of which a key "
        "that waits for less gets its part anyhow",
    )
    ttft_slo_ms: float | None = Field(
        None,
        gt=0,
        description="time to first token to aim at: requests that cannot keep it get HTTP 429 at "
        "once; default: none",
    )
    tpot_slo_ms: float | None = Field(
        None,
        gt=0,
        description="time per output token to aim at: bounds how many sequences run at once; "
        "default: none",
    )
    served_model_name: str | None = Field(
        None,
        min_length=1,
        description="the model's name in the API; default: as given, or the file's name",
    )
    chat_template: str | None = Field(
        None, description="Jinja file that replaces the model's chat template"
    )
    ui: bool = Field(True, description="serve the chat page at / and the cluster page at /cluster")
    vllm_metrics: bool = Field(
        False, description="also emit the metrics under vLLM's names, for existing dashboards"
    )
    max_body_bytes: Size = Field(
        8 << 20, ge=1024, le=1 << 30, description="largest request body; larger ones get HTTP 413"
    )
    max_connections: int = Field(
        1024, ge=1, description="HTTP requests in progress at once; more get HTTP 503"
    )
    max_stream_buffer_tokens: int = Field(
        4096, ge=1, description="tokens kept for a client that reads slowly before it is cut off"
    )
    request_timeout_s: float = Field(
        600.0, gt=0, le=86400, description="longest life of a request, from arrival to last token"
    )
    body_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="how long a client may pause while it sends a request"
    )
    drain_timeout_s: float = Field(
        30.0, ge=0, le=3600, description="after SIGTERM: time for running requests to finish"
    )
    worker_heartbeat_timeout_s: float = Field(
        20.0, gt=1, le=3600, description="a worker silent for so long is replaced"
    )
    worker_step_timeout_s: float = Field(
        300.0, gt=1, le=86400, description="a worker stuck in one step for so long is replaced"
    )
    prefill: int = Field(
        0, ge=0, le=64, description="workers that compute prompts for those that decode"
    )
    decode: int = Field(
        0, ge=0, le=64, description="workers that decode, and leave long prompts to others"
    )
    both: int = Field(
        0, ge=0, le=64, description="workers that prefill and decode; one if there are no others"
    )
    memory_nodes: int = Field(
        0,
        ge=0,
        le=64,
        description="nodes of a memory pool that the workers keep the KV of prompts in, of "
        "context_pool_bytes together",
    )
    threads_per_worker: int | None = Field(
        None, ge=1, le=1024, description="kernel threads of each worker; default: an equal share"
    )
    pin_workers: bool = Field(False, description="keep each worker on processors of its own")
    balance_roles: bool = Field(
        False, description="change roles of prefill and decode workers when one side is overloaded"
    )
    cluster_name: str | None = Field(
        None,
        pattern="^[A-Za-z0-9_-]{1,32}$",
        description="name of the cluster on this host; default: c and the port",
    )
    traces: Literal["off", "memory", "files"] = Field(
        "files",
        description="what is kept of each request's way through the server: nothing, the last "
        "ones, or also files for artesian trace",
    )
    trace_dir: Path | None = Field(
        None,
        description="directory of these files; default: artesian/traces in $XDG_STATE_HOME or "
        "~/.local/state",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="OpenTelemetry collector that gets traces too, such as "
        "http://localhost:4318/v1/traces; default: none",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least important messages that are still logged"
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        known = split_keys(self.api_key)
        for key in key_weights(self.api_key_weights):
            if key not in known:
                raise ValueError("api_key_weights has a key that api_key has not")
        return self

    @property
    def is_cluster(self) -> bool:
        """Whether there is more than a front and one worker."""
        return bool(self.prefill or self.decode or self.both or self.memory_nodes)

    @property
    def num_both(self) -> int:
        """Workers of role `both`."""
        return self.both if self.prefill or self.decode or self.both else 1

    @model_validator(mode="after")
    def _check_cluster(self) -> Self:
        if self.prefill and not (self.decode or self.both):
            raise ValueError("prefill needs workers that decode: set decode or both")
        if self.prefill + self.decode + self.both > 64:
            raise ValueError("there are more than 64 workers in all")
        if not self.is_cluster:
            for name in ("threads_per_worker", "cluster_name"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for clusters: set prefill, decode or both")
            for name in ("pin_workers", "balance_roles"):
                if getattr(self, name):
                    raise ValueError(f"{name} is for clusters: set prefill, decode or both")
        return self


def split_keys(text: str | None) -> list[str]:
    """The keys of `api_key`."""
    return [key for part in (text or "").split(",") if (key := part.strip())]


def key_weights(text: str | None) -> dict[str, float]:
    """The weights of `api_key_weights` by key. Raises `ValueError`, without telling the key."""
    weights = {}
    for part in split_keys(text):
        key, _, number = part.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not key or not 0 < weight < math.inf:
            raise ValueError("each weight is written KEY=WEIGHT, with a number above 0")
        weights[key.strip()] = weight
    return weights
