"""Devices: what they answer, what is made of it over time, and what their status says."""
