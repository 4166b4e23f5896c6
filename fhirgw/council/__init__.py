"""A made-up council, the same for the same seed: its facts, its faults, and two layouts that keep them. No I/O."""
