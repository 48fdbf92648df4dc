"""`audiozen listen`: pages of blinded listening tests, and what their ratings say."""
