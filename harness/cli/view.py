"""harness view RUN: a run in the browser, while it goes on and afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class ViewOptions:
    run: Annotated[str, tyro.conf.Positional]
    """Folder of an evaluation, a training run or a demo."""
    port: int = 0
    """Port on this machine. 0 takes a free one."""
    open: bool = False
    """Open the page in the browser."""


def view(args: list[str]) -> int:
    """Serve a run's page on this machine until it is interrupted."""
    options = parse(
        ViewOptions,
        args,
        "view",
        "Serve a run's page on this machine (loopback only, read-only) until Ctrl-C. It follows the run while it goes on.",
    )
    from harness.view.server import HOST, serve

    server = serve(Path(options.run), options.port)
    address = f"http://{HOST}:{server.server_port}/"
    print(f"{address}  (Ctrl-C ends it)", flush=True)
    if options.open:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return EXIT_OK
