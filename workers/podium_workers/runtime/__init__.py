"""Runs task functions against Conductor: one asyncio process, however many task types."""
