"""`candlecast audit`: poisons the future and proves that the past does not change. Prints only.

Exit codes: 0 nothing looked ahead; 2 bad input; 4 something did.
"""

from __future__ import annotations

import typer

from cluster.audit.settings import AuditSettings
from cluster.commands.options import add, from_settings
from cluster.commands.output import Output
from cluster.exit_codes import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add(app, audit)


@from_settings(
    "candlecast audit --store store --as-of 2024-03-28",
    "candlecast audit --store store --as-of 2024-03-28 --model fhs --symbols 12",
)
def audit(settings: AuditSettings, output: Output) -> None:
    """Poison every bar after a moment; what was known by then must not change in one bit.

    Windows, forecasts, calibration, scores, orders and equity are computed in the true world and
    in six poisoned ones, and compared.
    """
    from cluster.audit.job import run_audit

    with output.console.status("poisoning the future"):
        made = run_audit(settings)
    stages = ", ".join(f"{name} {n:,}" for name, n in made.stages.items())
    if made.leaks:
        words = "\n".join(f"LEAK  {leak}" for leak in made.leaks)
    else:
        words = f"nothing looked ahead of {made.moment:%Y-%m-%d %H:%M} UTC"
    output.result(
        {
            "moment": made.moment.isoformat(),
            "rows_compared": made.stages,
            "poisons": list(made.poisons),
            "leaks": [vars(leak) for leak in made.leaks],
        },
        f"{words}\nrows compared: {stages}\npoisons: {', '.join(made.poisons)}",
    )
    if made.leaks:
        raise typer.Exit(ExitCode.LEAK)
