"""`snn-policy train`: datasets, and actors trained on them; each command registers itself."""

import typer

from snn_policy.commands import train_collect, train_td3bc

app = typer.Typer(help="Make offline datasets, and train actors on them.", rich_markup_mode="rich")


@app.callback(invoke_without_command=True)
def _without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


train_collect.register(app)
train_td3bc.register(app)
