"""Words and rules of the gateway. No I/O happens here and nothing here knows a protocol or a library but canonical JSON."""
