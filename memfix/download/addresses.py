"""Which URLs and which addresses may be reached, so that a prompt list cannot make this machine ask its own network.

Knows nothing of HTTP.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from memfix.download.fetched import NotFetchedError, Status, failed, refused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Policy = Callable[[Address, int], bool]
Resolver = Callable[[str, int], list[str]]

PORTS = frozenset({80, 443, 8080, 8443})
DEFAULT_PORT = {"http": 80, "https": 443}
HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")
NO_SUCH_HOST = {socket.EAI_NONAME, socket.EAI_NODATA} if hasattr(socket, "EAI_NODATA") else {socket.EAI_NONAME}
KEPT_IN_PATH = "/%:@!$&'()*+,;=~-._"
MAX_URL = 8192


def _networks(*names: str) -> tuple[Network, ...]:
    return tuple(ip_network(name) for name in names)


# IANA's special-purpose registries, written out: what `ipaddress` calls global differs between Python versions
SPECIAL = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20",
)  # fmt: skip
METADATA_SERVICES = _networks("168.63.129.16/32")  # Azure's wire server, in the middle of public addresses
UNICAST = IPv6Network("2000::/3")
INTRANET = _networks(
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"
)
CLOUD = _networks("100.100.100.200/32", "fd00:ec2::254/128", "fd20:ce::254/128")  # metadata servers in INTRANET
NAT64 = IPv6Network("64:ff9b::/96")


class Destination(NamedTuple):
    """A URL taken apart. `host` is ASCII without brackets, `path` is quoted and has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """Host, and port unless it is the usual one, as in a URL and in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL in its normal form."""
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse(url: str) -> Destination:
    """Take a URL apart. Raises NotFetchedError (refused) for one that is no plain web address."""
    text = url.strip()
    if len(text) > MAX_URL:
        raise refused("malformed URL", f"it is longer than {MAX_URL} characters")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise refused("malformed URL", str(error)) from None
    if parts.scheme not in DEFAULT_PORT:
        raise refused("scheme", f"only http and https are fetched, not '{parts.scheme}'")
    if parts.username is not None or parts.password is not None:
        raise refused("credentials", "the URL holds a user name or password")
    path = quote(parts.path or "/", safe=KEPT_IN_PATH, errors="replace")
    if parts.query:
        path += "?" + quote(parts.query, safe=f"{KEPT_IN_PATH}?", errors="replace")
    return Destination(parts.scheme, _ascii(host), DEFAULT_PORT[parts.scheme] if port is None else port, path)


def _ascii(host: str) -> str:
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    name = name.rstrip(".")
    if not HOST.fullmatch(name) or len(name) > 253:
        raise refused("malformed URL", "it names no host")
    return name


def is_public(address: Address, port: int = 0) -> bool:
    """Whether an address is one of the open internet: not private, shared, local, multicast, reserved or metadata."""
    inner = embedded(address)
    if inner is not None:
        return is_public(inner, port)
    if isinstance(address, IPv6Address) and address not in UNICAST:
        return False
    return not _in(address, SPECIAL + METADATA_SERVICES)


def is_public_or_intranet(address: Address, port: int = 0) -> bool:
    """The policy of --allow-private: loopback and private networks too, and still no metadata server or link-local."""
    inner = embedded(address) or address
    return is_public(inner, port) or (_in(inner, INTRANET) and not _in(inner, CLOUD))


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, NAT64 or 6to4."""
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def resolve_host(host: str, port: int) -> list[str]:
    """Addresses of a host, best first. Raises socket.gaierror."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Gate:
    """The one way from a host name to an address. Ask it anew at every redirect, and connect to what it returned."""

    allows: Policy = is_public
    ports: frozenset[int] = PORTS
    resolver: Resolver = resolve_host

    def addresses(self, target: Destination) -> list[str]:
        """Addresses to connect to. Raises NotFetchedError if the port or any address of the host is not allowed."""
        if target.port not in self.ports:
            raise refused("port", f"port {target.port} is not one of {', '.join(map(str, sorted(self.ports)))}")
        try:
            found = self.resolver(target.host, target.port)
        except socket.gaierror as error:
            if error.errno in NO_SUCH_HOST:
                # transient: without a network, many resolvers say the same of every host
                raise NotFetchedError(
                    Status.DEAD, "no such host", f"{target.host}: {error.strerror}", transient=True
                ) from None
            raise failed("name server", f"{target.host}: {error.strerror}") from None
        except (UnicodeError, OSError) as error:
            raise refused("malformed URL", f"{target.host}: {error}") from None
        for text in found:
            if not self.allows(ip_address(text), target.port):
                raise refused("private address", f"{target.host} is {text}")
        return found
