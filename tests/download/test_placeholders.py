"""Which pictures stand in for lost ones, by what one picture shows and by what a whole list has in common."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from memfix.download.fetched import Fetched, NotFetchedError, Status
from memfix.download.placeholders import (
    LOOK_LEVELS,
    MANY,
    PLACEHOLDER,
    TARGET,
    check_redirect,
    hosts_of,
    is_blank,
    led_elsewhere,
    look,
    repeated,
)

SIDE = 64
UNLIKE = ("a red bicycle by the sea", "portrait of two kings", "lentil soup recipe", "winter in 1890s Oslo")


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8))


def sign(text: str = "NO IMAGE") -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "#dddddd")
    ImageDraw.Draw(image).text((4, 24), text, fill="#555555")
    return image


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def got(url: str, sha256: str = "a", plain: str = "", final: str = "", verified: bool = False) -> Fetched:
    return Fetched(
        url=url, status=Status.FETCHED, file_name=f"{sha256}.png", sha256=sha256, look=plain, final_url=final or url,
        verified=verified,
    )  # fmt: skip


def test_blank_is_one_colour_or_nearly() -> None:
    assert is_blank(Image.new("RGB", (SIDE, SIDE), "white"))
    speck = Image.new("RGB", (SIDE, SIDE), "white")
    speck.paste("black", (0, 0, 4, 4))  # 16 of 4096 pixels
    assert is_blank(speck)
    speck.paste("black", (0, 0, 6, 6))  # 36, more than one in 200
    assert not is_blank(speck)
    assert not is_blank(noise())


def test_only_plain_graphics_have_a_look_and_keep_it_as_jpeg() -> None:
    assert look(noise()) == ""
    plain = look(sign())
    assert len(bytes.fromhex(plain)) == 64
    again = np.frombuffer(bytes.fromhex(look(as_jpeg(sign(), 60))), np.uint8).astype(int)
    assert np.abs(again - np.frombuffer(bytes.fromhex(plain), np.uint8)).max() <= LOOK_LEVELS


@pytest.mark.parametrize(
    ("final", "reason"),
    [
        ("https://shop.example/", "homepage"),
        ("https://shop.example/index.html", "homepage"),
        ("https://cdn.example/img/no-image.png", "logo"),
        ("https://cdn.example/404.jpg", "logo"),
        ("https://cdn.example/moved/cat.jpg", ""),  # another place, the same picture
        ("https://cdn.example/cat-large.jpg", ""),
        ("https://cdn.example/1404.jpg", ""),
    ],
)
def test_where_redirects_lead(final: str, reason: str) -> None:
    url = "https://shop.example/img/cat.jpg"
    if not reason:
        check_redirect(url, final)
        return
    with pytest.raises(NotFetchedError) as caught:
        check_redirect(url, final)
    assert (caught.value.status, caught.value.reason) == (Status.REFUSED, reason)


def test_a_picture_that_is_called_like_a_surrogate_may_move() -> None:
    check_redirect("https://a.example/logo.png", "https://b.example/logo-2.png")
    assert led_elsewhere("https://a.example/logo.png", "https://b.example/logo-2.png")
    assert not led_elsewhere("https://a.example/x%20y.png", "https://b.example/x y.png")


def test_several_names_that_lead_to_one_file() -> None:
    target = "https://a.example/sorry.jpg"
    records = [got(f"https://a.example/{name}.jpg", final=target) for name in "xy"]
    assert {why.reason for why in repeated(records, {}).surrogates.values()} == {TARGET}
    assert not repeated(records[:1], {}).surrogates
    vouched = [r.model_copy(update={"verified": True}) for r in records]
    assert not repeated(vouched, {}).surrogates


def test_a_plain_graphic_that_a_host_repeats_is_refused_and_a_photograph_is_pointed_out() -> None:
    plain = look(sign())
    urls = [f"https://a.example/{i}.png" for i in range(MANY)]
    found = repeated([got(url, plain=plain) for url in urls], {})
    assert {url: why.reason for url, why in found.surrogates.items()} == dict.fromkeys(urls, PLACEHOLDER)
    assert found.suspects == []
    photographs = [got(url) for url in urls]
    assert repeated(photographs, {}) == ({}, [photographs])
    few = repeated([got(url, plain=plain) for url in urls[1:]], {})
    assert few == ({}, [])
    sizes = [got(f"https://a.example/0.png?width={i}", plain=plain) for i in range(MANY)]
    assert repeated(sizes, {}) == ({}, [])


@pytest.mark.parametrize("plain", ["", look(sign())])
def test_one_picture_of_several_hosts_is_suspect_only_under_captions_that_have_nothing_in_common(plain: str) -> None:
    records = [got(f"https://{host}.example/1.png", plain=plain) for host in "abcd"]
    assert hosts_of(records) == {f"{host}.example" for host in "abcd"}
    unlike = {r.url: {text} for r, text in zip(records, UNLIKE, strict=True)}
    found = repeated(records, unlike)
    if plain:
        assert set(found.surrogates) == set(unlike) and not found.suspects
    else:
        assert not found.surrogates and found.suspects == [records]
    alike = {r.url: {f"{UNLIKE[0]}, {i}"} for i, r in enumerate(records)}
    assert repeated(records, alike) == ({}, [])
    assert repeated(records, {}) == ({}, [])  # without captions there is nothing to compare
