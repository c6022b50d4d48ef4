"""Write behaviour.toml anew: what each client does under each fault. Look at the differences before you keep them."""

import tempfile
from importlib.metadata import version
from pathlib import Path

from memcache_kv import Server
from tests.testing.faults.clients import CLIENTS
from tests.testing.faults.scenarios import BEHAVIOUR, SCENARIOS, observe

HEAD = """# What clients do under faults, as test_clients.py sees it. Written by `python -m tests.testing.faults`.

"""


def main() -> None:
    """Put all clients through all scenarios."""
    lines = [HEAD, "[versions]\n"]
    lines += [f'{name} = "{version(client.distribution)}"\n' for name, client in CLIENTS.items()]
    with tempfile.TemporaryDirectory() as folder, Server(journal=Path(folder) / "journal") as server:
        for name in SCENARIOS:
            lines.append(f'\n[seen."{name}"]\n')
            for client in CLIENTS:
                seen = observe(server, name, client)
                later = ", ".join(f'"{outcome}"' for outcome in seen.later)
                row = f'call = "{seen.call}", later = [{later}], connection = "{seen.connection}"'
                lines.append(f"{client} = {{ {row} }}\n")
    BEHAVIOUR.write_text("".join(lines))


if __name__ == "__main__":
    main()
