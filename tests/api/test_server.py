import resource

import pytest

from artesian.api.server import SPARE_FILES, allow_connections, listen
from artesian.config import ServerConfig


def test_the_limit_of_open_files_is_raised_but_never_lowered() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        allow_connections(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 100 + SPARE_FILES
        allow_connections(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 100 + SPARE_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_listening_on_ipv6() -> None:
    try:
        listener = listen(ServerConfig(host="::1", port=0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with listener:
        assert listener.getsockname()[0] == "::1"
