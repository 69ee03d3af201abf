"""A Tollgate of our own: its data in a directory that goes away with it, its ports free ones."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

# Postgres is created on the first start; a busy machine takes its time.
START_SECONDS = 120
# Draining commits what is queued and stops Postgres.
STOP_SECONDS = 60


class Server:
    """`tollgate serve` with the embedded Postgres."""

    def __init__(self, program):
        self.program = os.path.abspath(program)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="tollgate-story-"))
        # Root's Postgres runs as another user, who has to pass through.
        self.directory.chmod(0o711)
        self.data_dir = self.directory / "data"
        self.address, self.metrics_address = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.log = (self.directory / "log").open("wb")
        self.process = subprocess.Popen(
            [
                self.program,
                "serve",
                f"--data-dir={self.data_dir}",
                f"--listen={self.address}",
                f"--metrics-listen={self.metrics_address}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=environment(),
        )

    def wait_until_it_listens(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended by itself:\n{self.read_log()}")
            with contextlib.suppress(OSError):
                host, port = self.address.split(":")
                with socket.create_connection((host, int(port)), timeout=1):
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start in {START_SECONDS} s:\n{self.read_log()}")

    def operator_token(self):
        return (self.data_dir / "operator.jwt").read_text().strip()

    def mint(self, role, *more):
        """A token for a caller of this role, made with the server's own secret."""
        command = [self.program, "token", "mint", f"--role={role}", *more]
        command.append(f"--data-dir={self.data_dir}")
        answer = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, text=True, env=environment()
        )
        return answer.stdout.strip()

    def stop(self):
        """Asks it to drain; answers its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_SECONDS)

    def read_log(self):
        self.log.flush()
        return (self.directory / "log").read_text(errors="replace")

    def remove(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            # Postgres ends by itself when we do, but not at once, and still holds its files.
            time.sleep(2)
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def environment():
    """Ours without what would lead to somebody's real server or books."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL"
        and (not name.startswith("TOLLGATE_") or name.startswith("TOLLGATE_POSTGRES_"))
    }


def free_ports(count):
    """Ports that are free now; all held at once, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
