"""The machinery between eyes and hands: keyed queue, store, passes over objects, run tracker, resync."""
