"""The `exotide` command: each verb lives beside what it drives and is imported only when used."""

from __future__ import annotations

from importlib.metadata import version

from cyclopts import App

app = App(
    name="exotide",
    help="Autoscaling for Exoscale instance pools, with a local cloud to prove it on.",
    version=version("exotide"),
    version_flags=["--version"],
)
app.command("exotide.cloud.command:app", name="cloud")
app.command("exotide.check.command:check", name="check")
app.command("exotide.demo.command:demo", name="demo")
app.command("exotide.up.command:down", name="down")
app.command("exotide.up.command:up", name="up")


def main() -> None:
    """Run the command line."""
    app()
