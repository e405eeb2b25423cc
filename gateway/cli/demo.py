"""`tollgate demo`: the gateway, its upstreams and the story they tell, in the foreground."""

from __future__ import annotations

import os

import click

from gateway.cli.output import json_option, message

_EPILOG = """\b
Examples:
  tollgate demo
  TOLLGATE_LISTEN=127.0.0.1:9080 TOLLGATE_ADMIN_LISTEN=127.0.0.1:9081 tollgate demo
  tollgate demo --once     tells the story and ends: 0 when all of it came true

It listens on loopback only. Ctrl-C stops everything.
"""


@click.command("demo", epilog=_EPILOG)
@click.option("--once", is_flag=True, help="End after the story instead of staying up.")
@json_option
def command(once: bool, as_json: bool) -> int:
    """Show it: a gateway in front of real MCP, A2A, model and HTTP upstreams on this machine."""
    try:
        from gateway.demo import story  # the demo's own requirements (extra `demo`) are needed by nothing else
    except ImportError as error:
        message(
            f"tollgate: the demo needs more packages ({error.name}); install them with: pip install 'tollgate[demo]'"
        )
        return 1
    code = story.main(os.environ, stay=not once)
    if as_json:
        message(f'{{"exit": {code}}}')
    return code
