"""A stand-in for sshd in OpenSSH's own test scripts: listens where they want it, and relays.

Arguments: the sshd_config that the script wrote, and the node's port. Like sshd it goes to the
background when it listens, keeps its PID in PidFile, and takes that away when it is killed.
"""

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One way; passes the end of it on."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def serve(listening: socket.socket, port: int, pid_file: Path) -> None:
    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(relay(reader, back), relay(onward, writer))
        writer.close()
        back.close()

    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    # No handles kept: it ends with the script, and connections of it end then, too.
    await asyncio.start_server(visit, sock=listening)
    # Who reads it may end us at once: it is whole, and we hear.
    draft = pid_file.with_name(f"{pid_file.name}.draft")
    draft.write_text(f"{os.getpid()}\n")
    draft.rename(pid_file)
    await over.wait()


def setting(config: str, name: str) -> str:
    found = re.search(rf"^\s*{name}\s+(\S+)", config, re.MULTILINE | re.IGNORECASE)
    assert found, name
    return found[1]


def main() -> None:
    config, port = Path(sys.argv[1]).read_text(), int(sys.argv[2])
    listening = socket.create_server(("127.0.0.1", int(setting(config, "Port"))), backlog=128)
    if os.fork():
        os._exit(0)
    os.setsid()
    pid_file = Path(setting(config, "PidFile"))
    asyncio.run(serve(listening, port, pid_file))
    pid_file.unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    main()
