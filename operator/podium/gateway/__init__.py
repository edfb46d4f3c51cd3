"""HTTP in: health, metrics, and Conductor's notices."""
