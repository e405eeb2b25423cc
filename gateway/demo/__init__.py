"""The demo: real upstreams on free loopback ports and a story told by real clients through the gateway."""
