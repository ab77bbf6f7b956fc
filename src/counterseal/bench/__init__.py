"""Measure ourselves against peers and bare baselines: same machine, same run, raw data kept.

`exchange` runs the scenarios, `measures` takes the samples, `figures` compares them with the
targets, `report` writes the table. A figure is computed from raw samples, never typed in.
"""
