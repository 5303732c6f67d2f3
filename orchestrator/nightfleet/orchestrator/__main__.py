"""`python -m nightfleet.orchestrator` is the command `nightfleet`."""

from nightfleet.orchestrator.commands.edge import main

if __name__ == "__main__":
    main()
