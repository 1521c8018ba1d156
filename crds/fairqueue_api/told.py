"""Being told to end, by SIGTERM or Ctrl-C: first in order, then at once."""

import asyncio
import signal


class Told:
    """The first `tell` asks to finish, a second to end at once. To be made in a running loop."""

    def __init__(self) -> None:
        self.to_finish = asyncio.Event()
        self.to_end = asyncio.Event()

    def tell(self) -> None:
        """What a signal does."""
        (self.to_end if self.to_finish.is_set() else self.to_finish).set()

    def listen_to_signals(self) -> None:
        """From now on, in the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.tell)
