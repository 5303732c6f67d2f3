"""An event loop that uses a child process, a socket pair, threads and a signal: what asyncio needs of the kernel."""

import asyncio
import socket
import sys
import threading


async def main() -> None:
    """Prints one line for each thing that worked."""
    loop = asyncio.get_running_loop()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read().upper())",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await child.communicate(b"child\n")
    sys.stdout.write(out.decode())

    here, there = socket.socketpair()
    here.settimeout(0)
    there.settimeout(0)
    await loop.sock_sendall(here, b"pair")
    sys.stdout.write(f"{(await loop.sock_recv(there, 16)).decode()}\n")

    total = sum(await asyncio.gather(*(asyncio.to_thread(sum, range(n)) for n in range(50))))
    sys.stdout.write(f"threads {total}\n")

    rang = asyncio.Event()
    threading.Timer(0.01, loop.call_soon_threadsafe, [rang.set]).start()
    await asyncio.wait_for(rang.wait(), 10)
    sys.stdout.write("timer\n")


asyncio.run(main())
