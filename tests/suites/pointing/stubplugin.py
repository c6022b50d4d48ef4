import shlex, socket, subprocess, time, os, sys
import pytest
def pytest_addoption(parser):
    parser.addoption("--memcached-exec", default=None)
class Proc:
    def __init__(self, address): self.address = address; self.host, self.port = address
@pytest.fixture(scope="session")
def memcached_proc(request):
    command = request.config.option.memcached_exec
    if not command:
        from memcache_kv import Server
        with Server() as s:
            yield Proc(s.address)
        return
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    words = shlex.split(command)
    if os.geteuid() == 0 and "memcache_kv" not in command: words += ["-u", "root"]
    p = subprocess.Popen([*words, "-p", str(port), "-l", "127.0.0.1", "-U", "0"], stderr=subprocess.DEVNULL)
    while True:
        try: socket.create_connection(("127.0.0.1", port)).close(); break
        except OSError: time.sleep(0.02)
    yield Proc(("127.0.0.1", port))
    p.kill(); p.wait()
