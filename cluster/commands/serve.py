"""`candlecast serve`: the console over a table, until interrupted. Prints where it is, only.

Heavy modules load inside the command.
"""

from __future__ import annotations

import typer

from cluster.commands.options import add, from_settings
from cluster.commands.output import Output
from cluster.console.settings import ServeSettings


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add(app, serve)


@from_settings(
    "candlecast serve --store store --forecasts forecasts --reports reports",
    "candlecast serve --store store --forecasts s3://bucket/forecasts --port 8700",
    "candlecast serve --config serve.yaml --host 10.0.0.5 --tls-cert cert.pem --tls-key key.pem",
)
def serve(settings: ServeSettings, output: Output) -> None:
    """Serve the console: nights, symbols, runs, backtests, data, and forecasts on demand."""
    from cluster.console.access import Access
    from cluster.console.server import run
    from market.lake.history import MarketHistory

    MarketHistory.open(settings.store)  # a wrong folder is told now, not on the first page

    def say(address: str, access: Access) -> None:
        login = f"{address}/login#{access.token}"
        data = {"address": address, "token": access.token, "login": login}
        hours = f"{settings.token_hours:g}"
        output.result(
            data,
            f"console: {login}\n"
            f"token for programs (Authorization: Bearer …): {access.token}\n"
            f"both are good for {hours} hours, or until this program ends (Ctrl-C)",
        )
        if not settings.local and settings.tls_cert is None:
            output.line(
                "warning: without --tls-cert the token crosses the network readable by others; "
                "put a proxy with https before it, or tunnel through ssh"
            )

    run(settings, say)
