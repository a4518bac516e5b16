"""What both sides agree on: topics, messages, codec, transfer, transport. No torch."""
