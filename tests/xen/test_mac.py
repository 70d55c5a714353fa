from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps.xen.mac import PREFIX, SPACE, MacRefused, check_mac, from_number, twin

NUMBERS = st.integers(0, SPACE - 1)


def test_twin_is_the_howtos_xor() -> None:
    assert twin("aa:00:00:d1:00:09") == "aa:00:00:d0:00:09"
    assert twin("00:16:3e:00:00:00") == "00:16:3e:01:00:00"


@given(NUMBERS)
def test_twin_of_the_twin_is_the_address(n: int) -> None:
    mac = from_number(n)
    assert check_mac(mac) == mac
    assert mac.startswith("00:16:3e:")
    assert twin(mac) != mac
    assert twin(twin(mac)) == mac


@given(st.lists(NUMBERS, max_size=30))
def test_no_address_is_another_one_or_its_twin(numbers: list[int]) -> None:
    given_out: list[str] = []
    for n in numbers:
        given_out.append(from_number(n, given_out))
    everything = given_out + [twin(mac) for mac in given_out]
    assert len(set(everything)) == len(everything)


def test_taken_number_goes_on_to_the_next_free_one() -> None:
    assert from_number(5, ["00:16:3e:00:00:05"]) == "00:16:3e:00:00:06"
    assert from_number(5, ["00:16:3e:01:00:05", "00:16:3e:00:00:06"]) == "00:16:3e:00:00:07"


def test_after_the_last_comes_the_first() -> None:
    assert from_number(SPACE - 1, ["00:16:3e:ff:ff:ff"]) == "00:16:3e:00:00:00"


def test_addresses_of_others_do_not_matter() -> None:
    assert from_number(5, ["02:00:00:00:00:05"]) == "00:16:3e:00:00:05"


def test_more_random_bits_than_needed_are_cut() -> None:
    assert from_number(2**64 + 5) == "00:16:3e:00:00:05"


def test_full_range_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vps.xen.mac.SPACE", 4)
    taken = [from_number(0)]
    for n in range(1, 4):
        taken.append(from_number(n, taken))
    with pytest.raises(MacRefused, match="No MAC address is left"):
        from_number(0, taken)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00:16:3e",
        "00:16:3E:00:00:01",
        "00-16-3e-00-00-01",
        "00:16:3e:00:00:01\n",
        " 00:16:3e:00:00:01",
        "00:16:3e:00:00:0g",
        "00:16:3e:00:00:01:02",
        "00163e000001",
        "00:16:3e:00:00:01,bridge=x",
        "٠٠:16:3e:00:00:01",
        "00:00:00:00:00:00",
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
    ],
)
def test_what_is_no_interfaces_address_is_refused(text: str) -> None:
    with pytest.raises(MacRefused):
        check_mac(text)
    with pytest.raises(MacRefused):
        twin(text)


def test_prefix_is_xens() -> None:
    assert PREFIX.to_bytes(6, "big").hex(":") == "00:16:3e:00:00:00"
