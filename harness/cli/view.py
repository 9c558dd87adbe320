"""harness view RUN: a run in the browser, while it runs and afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.cli.arguments import RunFolder, parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError


@dataclass(frozen=True)
class ViewOptions:
    run: RunFolder
    """Folder of an evaluation, a training run or a demo. If it does not exist yet, the page waits
    for it."""
    port: int = 0
    """Port on this machine. 0: a free one."""
    open: bool = False
    """Open the page in the browser."""
    json: bool = False
    """Print {"address"} as JSON."""


def view(args: list[str]) -> int:
    """Serve a run's page on this machine (loopback only, read-only) until Ctrl-C.

    The page follows the run: how much is done, how long the rest takes, and the scores so far.

    Example: harness view build/eval/my-model --open
    """
    options = parse(ViewOptions, args, "view", view.__doc__)
    if not 0 <= options.port < 2**16:
        raise HarnessError(f"invalid --port {options.port}: expected 0 to 65535")
    from harness.view.live import has_begun
    from harness.view.server import HOST, serve

    server = serve(Path(options.run), options.port)
    address = f"http://{HOST}:{server.server_port}/"
    if options.json:
        print_json({"address": address})
    else:
        waits = "" if has_begun(Path(options.run)) else f"waiting for a run in {options.run}; "
        print(f"{address}  ({waits}Ctrl-C ends it)", flush=True)
    if options.open:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        if not options.json:
            print()
    finally:
        server.server_close()
    return EXIT_OK
