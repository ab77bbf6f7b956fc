"""`python -m counterseal` is the command line, for where no script is on the path."""

from counterseal.cli.main import run

run()
