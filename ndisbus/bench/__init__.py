"""``ndisbus bench``: our chain and a bare ZeroMQ chain of the same hops, measured in one run."""
