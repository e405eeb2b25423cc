"""`tollgate completion`: the script a shell reads to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from gateway.cli.output import OK, Stop, data, json_option

_WHERE = {
    "bash": "add to ~/.bashrc:  source <(tollgate completion bash)",
    "zsh": "add to ~/.zshrc:  source <(tollgate completion zsh)",
    "fish": "run once:  tollgate completion fish > ~/.config/fish/completions/tollgate.fish",
}
_EPILOG = "\b\nHow to install it:\n" + "\n".join(f"  {shell}: {text}" for shell, text in _WHERE.items())


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(sorted(_WHERE)))
@json_option
@click.pass_context
def command(context: click.Context, shell: str, as_json: bool) -> int:
    """Print the completion script of a shell."""
    found = get_completion_class(shell)
    if found is None:
        raise Stop(f"click has no completion for {shell}")
    script = found(context.find_root().command, {}, "tollgate", "_TOLLGATE_COMPLETE").source()
    if as_json:
        data({"shell": shell, "script": script}, "", True)
    else:
        click.echo(script)
    return OK
