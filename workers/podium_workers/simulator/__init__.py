"""Simulated devices: the real protocol, images and behaviour of ESP32 boards, with faults on demand."""
