"""Words and rules of the gateway: no I/O, no protocol, no library but canonical JSON."""
