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
    "candlecast serve --store store --forecasts s3://bucket/forecasts --address head:6379",
    "candlecast serve --config serve.yaml --host 10.0.0.5 --tls-cert cert.pem --tls-key key.pem",
)
def serve(settings: ServeSettings, output: Output) -> None:
    """Serve the console: nights, symbols, runs, backtests, data, and forecasts on demand."""
    from cluster.console.access import Access
    from cluster.console.deployment import forecasts_of
    from cluster.console.ondemand import LocalModels
    from cluster.console.server import listen, own_token, prepare
    from cluster.console.state import served
    from market.lake.history import MarketHistory

    # A wrong folder, or a model that is not there, is told now and not on the first page.
    MarketHistory.open(settings.store)
    token = own_token()
    models = LocalModels(served(settings), settings.tokenizer)
    models.load(models.names[0])
    if settings.address is not None:
        output.line(f"deploying {models.names[0]} on the cluster at {settings.address} …")
    with listen(settings) as door, forecasts_of(settings, models, door.getsockname()[1]) as made:
        access = Access(settings.token_hours, settings.session_hours, token)
        listening = prepare(settings, access, made, door)
        login = f"{listening.address}/login#{access.token}"
        output.result(
            {"address": listening.address, "token": access.token, "login": login},
            f"console: {login}\n"
            f"token for programs (Authorization: Bearer …): {access.token}\n"
            f"both are good for {settings.token_hours:g} hours, or until this program ends "
            "(Ctrl-C)",
        )
        if not settings.local and settings.tls_cert is None:
            output.line(
                "warning: without --tls-cert the token crosses the network readable by others; "
                "put a proxy with https before it, or tunnel through ssh"
            )
        listening.run()
