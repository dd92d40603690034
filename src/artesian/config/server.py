"""Settings of the HTTP front and of how it looks after its worker."""

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
    served_model_name: str | None = Field(
        None,
        min_length=1,
        description="the model's name in the API; default: as given, or the file's name",
    )
    chat_template: str | None = Field(
        None, description="Jinja file that replaces the model's chat template"
    )
    ui: bool = Field(True, description="serve the chat page at /")
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
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least important messages that are still logged"
    )

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
