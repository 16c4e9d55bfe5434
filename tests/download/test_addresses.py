"""No way to this machine and its networks: addresses in every notation, URLs in every disguise, names that change."""

import socket
from ipaddress import ip_address

import pytest

from memfix.download.addresses import Gate, is_public, is_public_or_intranet, parse
from memfix.download.fetched import NotFetchedError, Status

CLOSED = [
    "127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.100.100.200", "169.254.169.254", "168.63.129.16", "0.0.0.0", "0.1.2.3", "192.0.0.192", "192.0.2.1",
    "198.18.0.1", "198.51.100.7", "203.0.113.9", "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
    "2001:db8::1", "2001::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:c0a8:101::1", "100::1", "3fff::1",
]  # fmt: skip


@pytest.mark.parametrize("address", CLOSED)
def test_closed_addresses(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8",
                "64:ff9b::808:808", "2002:808:808::1"]
)  # fmt: skip
def test_open_addresses(address: str) -> None:
    assert is_public(ip_address(address))
    assert is_public_or_intranet(ip_address(address))


def test_an_intranet_is_not_the_cloud_s_metadata() -> None:
    for address in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd12::1", "::ffff:10.0.0.1"):
        assert is_public_or_intranet(ip_address(address)), address
    for address in ("169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "100.100.100.200", "fd00:ec2::254",
                    "::ffff:169.254.169.254", "168.63.129.16"):  # fmt: skip
        assert not is_public_or_intranet(ip_address(address)), address


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost",
             "LOCALHOST.", "0", "①②⑦.0.0.1"]
)  # fmt: skip
def test_every_way_to_write_this_machine_is_refused(host: str) -> None:
    with pytest.raises(NotFetchedError) as caught:
        Gate().addresses(parse(f"http://{host}/a.png"))
    assert caught.value.reason in {"private address", "malformed URL"} or caught.value.status is Status.DEAD


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/a.png", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("//example.org/a.png", "scheme"),
        ("a.png", "scheme"),
        ("http://user:secret@example.org/a.png", "credentials"),
        ("http://user@example.org/a.png", "credentials"),
        ("http://@example.org/a.png", "credentials"),
        ("http://example.org\\@127.0.0.1/a.png", "credentials"),
        ("http://example.org\\.evil/a.png", "malformed URL"),
        ("http://exa mple.org/a.png", "malformed URL"),
        ("http:///a.png", "malformed URL"),
        ("http://...../a.png", "malformed URL"),
        ("http://[::1/a.png", "malformed URL"),
        ("http://example.org:99999/a.png", "malformed URL"),
        ("http://example.org:ssh/a.png", "malformed URL"),
        (f"http://{'a' * 300}.org/a.png", "malformed URL"),
        ("http://example.org/" + "a" * 9000, "malformed URL"),
    ],
)
def test_what_is_no_plain_web_address(url: str, reason: str) -> None:
    with pytest.raises(NotFetchedError) as caught:
        parse(url)
    assert (caught.value.status, caught.value.reason) == (Status.REFUSED, reason)


def test_a_url_taken_apart() -> None:
    assert parse(" https://Bücher.example/ä b.jpg?q=ö&w=1#x ") == (
        "https", "xn--bcher-kva.example", 443, "/%C3%A4%20b.jpg?q=%C3%B6&w=1"
    )  # fmt: skip
    assert parse("http://example.org").path == "/"
    assert parse("http://example.org/a%20b.jpg").path == "/a%20b.jpg"
    assert parse("http://h/a\r\nHost: evil").path == "/aHost:%20evil"  # urlsplit takes line ends out
    target = parse("http://[2606:4700::1111]:8080/a")
    assert (target.host, target.netloc) == ("2606:4700::1111", "[2606:4700::1111]:8080")
    assert parse("https://example.org:443/a").netloc == "example.org"


@pytest.mark.parametrize("port", [22, 25, 6379, 0])
def test_ports(port: int) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError("looked up")

    with pytest.raises(NotFetchedError) as caught:
        Gate(resolver=never).addresses(parse(f"http://example.org:{port}/a"))
    assert caught.value.reason == "port"


def test_one_private_address_among_public_ones_is_enough() -> None:
    with pytest.raises(NotFetchedError, match=r"10\.0\.0\.5"):
        Gate(resolver=lambda host, port: ["8.8.8.8", "10.0.0.5"]).addresses(parse("http://example.org/"))


@pytest.mark.parametrize(
    ("errno", "status", "transient"),
    [(socket.EAI_NONAME, Status.DEAD, True), (socket.EAI_AGAIN, Status.FAILED, True)],
)
def test_name_servers(errno: int, status: Status, transient: bool) -> None:
    def broken(host: str, port: int) -> list[str]:
        raise socket.gaierror(errno, "said no")

    with pytest.raises(NotFetchedError) as caught:
        Gate(resolver=broken).addresses(parse("http://example.org/"))
    assert (caught.value.status, caught.value.transient) == (status, transient)
