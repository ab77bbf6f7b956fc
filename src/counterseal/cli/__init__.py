"""The command line: parse, call `jobs`, print. One file for each noun, no logic.

stdout is data, stderr is talk. Every command takes `--json`; errors then are JSON as well.
Exit codes are the errors' own (`errors.py`), 2 for usage, 130 for Ctrl-C.
"""
