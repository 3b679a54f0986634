"""`prefdata`: the commands in order, and what happens when one of them ends badly.

Exit codes: 0 done; 1 a check of `doctor` found a fault; 2 something the user can mend, said in one sentence; 3 stopped
before the end (the budget is reached, a model's server gives up); 130 Ctrl-C. After 3 and 130 everything finished is
stored. Anything else is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from prefdata.cli import (
    audit,
    doctor,
    export,
    import_,
    init,
    judges,
    label,
    methods,
    push,
    report,
    route,
    run,
    show,
    snapshot,
    sql,
    status,
    why,
)
from prefdata.cli.options import AsJson, StoreFile
from prefdata.core.errors import Interrupted, PrefdataError, Stopped

LATER = {"train": ("prefdata.cli.train", "Train a policy or a reward model on an export.")}
"""Commands whose options alone cost more to load than `prefdata --help` may take: name -> (module, help line)."""
_MENDABLE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG)


class Commands(TyperGroup):
    """Loads a command when it is called, and turns the user's errors into one sentence and an exit code."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name = args[0] if args else ""
        if name in LATER and name in self.commands:
            self.commands[name] = _load(name, LATER[name][0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        show.listen()
        if "--json" in (*ctx._protected_args, *ctx.args):  # a command that fails while its options are read must speak JSON, too
            ctx.meta["prefdata.json"] = True
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say(ctx, "stopped: what was finished is stored; run the same command again to go on.")
            raise typer.Exit(130) from None
        except PrefdataError as error:
            _say(ctx, str(error))
            raise typer.Exit(_code(error, ctx.invoked_subcommand)) from None
        except OSError as error:
            if error.errno not in _MENDABLE:
                raise
            file = error.filename2 or error.filename
            where = repr(str(file)) if file else "where a file is written"
            _say(ctx, f"{error.strerror}: {where}; give another place, or free space or permission there.")
            raise typer.Exit(2) from None


def _code(error: PrefdataError, command: str | None) -> int:
    """What a training is stopped by is always a signal; a run may also stop by itself."""
    if isinstance(error, Interrupted) or (isinstance(error, Stopped) and command == "train"):
        return 130
    return 3 if isinstance(error, Stopped) else 2


def _say(ctx: Any, message: str) -> None:
    if os.environ.get("PREFDATA_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    show.fail(message, bool(ctx.meta.get("prefdata.json")))


def _load(name: str, module: str) -> Any:
    single = typer.Typer(add_completion=False, rich_markup_mode=app.rich_markup_mode)
    single.command(name)(getattr(importlib.import_module(module), name))
    return typer.main.get_command(single)


def _version(value: bool) -> None:
    if value:
        from prefdata import __version__

        show.Screen().line(f"prefdata {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    name="prefdata",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--plugins", metavar="FOLDER", envvar="PREFDATA_PLUGINS", help="A folder with shelves of your own methods."),
    ] = None,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Curate and annotate preference datasets for LLM alignment.

    Start with:  prefdata init demo && cd demo && prefdata run pipelines/demo.yaml

    Exit codes: 0 done, 2 something you can mend, 3 stopped before the end (such as by --budget), 130 Ctrl-C; after 3 and 130 the
    same command goes on where it stopped.
    """
    if plugins:
        from prefdata.core import catalogue

        for folder in plugins:
            catalogue.add_plugins(folder.resolve())


def _later(name: str, line: str) -> None:
    def stub() -> None: ...

    app.command(name, help=line)(stub)


app.command("init")(init.init)
app.command("import")(import_.import_)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("why")(why.why)
app.command("sql")(sql.sql)
app.command("methods")(methods.methods)
app.command("export", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(export.export)
app.command("push")(push.push)
for _name, (_, _line) in LATER.items():
    _later(_name, _line)
app.command("audit")(audit.audit)
app.command("judges")(judges.judges)
app.command("route")(route.route)
app.command("simulate")(route.simulate)
app.command("label")(label.label)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.command("snapshot")(snapshot.snapshot)


def main() -> None:
    """The entry point: a terminal that cannot show a character gets its number instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")
    app(prog_name="prefdata")
