"""kopf at the door: a watch event becomes a projection and a key, nothing else."""
