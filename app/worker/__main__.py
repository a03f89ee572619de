"""`python -m app.worker`: the daemon of the self-contained file."""

from app.worker.command import main

main()
