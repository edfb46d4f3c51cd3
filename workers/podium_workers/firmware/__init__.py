"""Firmware for devices: built, judged, sent over the air, and checked where it runs."""
