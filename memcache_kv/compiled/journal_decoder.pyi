from memcache_kv.store.entry import Entry
from memcache_kv.store.restoring import IsNeeded, LeftOut, Needed
from memcache_kv.store.shard import Shard

def parse_block(block: bytes | bytearray, before: int) -> ParsedBlock: ...
def leave_out(
    shard: Shard,
    needed: Needed,
    left_out: LeftOut,
    is_needed: IsNeeded | None,
    wanted_bytes: int,
    wanted_items: int,
    now: int,
) -> int: ...

class ParsedBlock:
    def __len__(self) -> int: ...
    def lines(
        self, start: int, end: int, now: int, is_apart: bool = False
    ) -> tuple[list[bytes], list[Entry | None]]: ...
    def restore(
        self,
        shards: list[Shard],
        expired: list[dict[bytes, Entry]],
        start: int,
        end: int,
        now: int,
        last_cas: int,
        left_out: LeftOut | None = None,
    ) -> tuple[int, int, int]: ...
