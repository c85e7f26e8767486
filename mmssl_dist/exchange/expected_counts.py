"""How many ids a message has room for beside their number: what both of its ends expect from earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

HEAD = 2  # the number of ids, and a number that is announced
_SPARE, _STEP = 1.25, 64


@dataclass
class ExpectedCounts:
    """Ids that a message to each worker has room for, and one of each worker. Both ends learn the number of
    ids of every message, so they expect the same of the next one."""

    to: list[int]
    of: list[int]

    def sizes(self, ids: Sequence[int]) -> list[int]:
        """Of messages with room for so many ids."""
        return [HEAD + count for count in ids]

    def filled(self, peer: int, ids: Tensor, announce: int) -> Tensor:
        """The message to ``peer``: as many of ``ids`` as there is room for."""
        message = ids.new_zeros(HEAD + self.to[peer])
        message[0], message[1] = len(ids), announce
        # What does not fit goes in a second message, which the number in front announces.
        some = ids[: self.to[peer]]
        message[HEAD : HEAD + len(some)] = some
        return message

    def grow(self, sent: Sequence[int], received: Sequence[int], but: int) -> None:
        """Make room for such numbers of ids and some more; none for worker ``but``, this one itself."""
        for expected, counts in ((self.to, sent), (self.of, received)):
            for peer, count in enumerate(counts):
                if peer != but:
                    # A quarter more, rounded up, so that counts that fluctuate a little do not outgrow it.
                    expected[peer] = max(expected[peer], -(-int(count * _SPARE) // _STEP) * _STEP)
