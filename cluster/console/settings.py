"""What `candlecast serve` is told. Knows settings; nothing of how they are served."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from cluster.settings import Replicas
from market.settings import Place, Settings


class ServeSettings(Settings):
    """What the console shows, where it listens and how much it answers."""

    store: Place
    """Folder or URL of the history store."""
    forecasts: Place
    """Folder or URL of the forecast table."""
    reports: Path | None = None
    """Folder of nightly reports, evaluations, tear sheets and sweeps; it and what lies below."""
    host: str = "127.0.0.1"
    """Address to listen on; beyond this machine name those allowed with allow_host."""
    port: int = Field(8600, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    allow_host: tuple[str, ...] = ()
    """Names browsers may reach the console by, beside localhost and the address itself."""
    tls_cert: Path | None = None
    """Certificate (PEM) to serve https with."""
    tls_key: Path | None = None
    """Its private key."""
    token_hours: float = Field(168.0, gt=0)
    """Hours the token printed at the start is good for."""
    session_hours: float = Field(12.0, gt=0)
    """Hours a browser stays logged in."""
    model: str = "nano"
    """Model of forecasts on demand, beside the baselines; none for baselines alone."""
    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, where the alias does not say it."""
    address: str | None = None
    """Ray cluster that forecasts on demand, as a deployment of Ray Serve; without, this process."""
    replicas: Replicas = "auto"
    """Model copies on the cluster: a number, min:max as requests come, or auto for one per GPU, and
    from one up to eight where there are none."""
    gpus_per_replica: float | None = Field(None, ge=0)
    """Share of a GPU each of them takes. Without: a whole one where the cluster has any."""
    max_paths: int = Field(512, ge=1)
    """Most sampled futures one request on demand may ask for."""
    max_horizon: int = Field(256, ge=1)
    """Most bars ahead one request on demand may ask for."""
    max_bars: int = Field(5000, ge=2)
    """Most bars one request on demand may bring."""
    max_waiting: int = Field(64, ge=1)
    """Requests on demand that may wait; more are told to come back."""
    body_kib: int = Field(1024, ge=1)
    """Largest body of a request, in KiB."""
    body_seconds: float = Field(10.0, gt=0)
    """Longest time a request may take to arrive, its headers and its body each."""
    requests_per_second: float = Field(100.0, gt=0)
    """Requests one address may make, on average over a few seconds."""

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the console."""
        return is_loopback(self.host)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("`tls_cert` and `tls_key` belong together")
        if not self.local and not self.allow_host and _unspecified(self.host):
            raise ValueError(
                f"`host` {self.host} listens on every address of this machine: say by which name "
                "browsers reach it with `allow_host`, or they could be led here by any other"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
