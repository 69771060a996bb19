"""`python -m kptools.cli.viz`, as the other tools."""

from kptools.cli.viz import main

main()
