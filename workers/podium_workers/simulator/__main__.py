"""`python -m podium_workers.simulator` is `podium simulate`."""

from podium_workers.simulator.commands import simulate

if __name__ == "__main__":
    simulate(prog_name="podium simulate")
