"""`audiozen listen`: makes pages for blinded listening tests, and compares systems by the ratings."""
