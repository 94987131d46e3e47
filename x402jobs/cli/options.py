"""Options that several commands share."""

from pathlib import Path

import click

from x402jobs.settings import Settings

data_option = click.option(
    "--data",
    metavar="DIR",
    envvar="X402JOBS_DATA",
    default=Settings().data,
    show_default=True,
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the embedded store and its keys.",
)
