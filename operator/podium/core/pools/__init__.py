"""WorkerPools: what there is to do, how many pods that needs, and what those pods are."""
