"""Networks for speech enhancement and separation."""
