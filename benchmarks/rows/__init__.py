"""The rows of the table. `rows(rounds)` of a module measures one row, or several that belong together."""
