"""`python -m podium_workers` is `podium-worker`."""

from podium_workers.runtime.main import main

if __name__ == "__main__":
    main()
