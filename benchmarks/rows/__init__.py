"""The rows of the table of `python -m benchmarks`. In each module, `rows(rounds)` measures one or more related rows."""
