"""Podium: Conductor workflows, their workers and device fleets as part of a Kubernetes cluster."""
