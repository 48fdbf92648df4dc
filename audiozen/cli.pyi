from audiozen_core.cli.table import echo_table as echo_table
