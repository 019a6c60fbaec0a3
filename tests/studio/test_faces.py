"""Faces are what their labels say, and every pixel belongs to the region that it shows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from sfumato.errors import OptionError
from sfumato.studio.faces import ATTRIBUTES, LABELS, LIPSTICKS, REGIONS, SIZE, Face, face, label_shares

SEEDS = range(12)


def changed(one: Face, other: Face) -> NDArray[np.bool_]:
    """Pixels that differ, (y, x)."""
    return np.asarray((one.image != other.image).any(-1))


def with_bit(label: str, attribute: str, on: bool) -> str:
    place = ATTRIBUTES.index(attribute)
    return label[:place] + str(int(on)) + label[place + 1 :]


def pairs(attribute: str, male: bool | None = None) -> list[tuple[Face, Face]]:
    """Faces without and with an attribute, over seeds and all other bits."""
    labels = [label for label in LABELS if label[ATTRIBUTES.index(attribute)] == "0"]
    if male is not None:
        labels = [label for label in labels if label[1] == str(int(male))]
    return [(face(seed, label), face(seed, with_bit(label, attribute, True))) for seed in SEEDS for label in labels]


def beside(mask: NDArray[np.bool_], pixels: int = 1) -> NDArray[np.bool_]:
    """A mask grown, for edges that share a pixel with their neighbour, and for corners thinner than half of one."""
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3), bool), pixels))


def test_a_seed_fixes_the_face() -> None:
    for seed in (0, 7, 2**63):
        first, again = face(seed), face(seed)
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.owner, again.owner)
        assert first.label == again.label
        np.testing.assert_array_equal(face(seed, first.label).image, first.image)
    assert len({face(seed, "0000").image.tobytes() for seed in SEEDS}) == len(SEEDS)


def test_every_label_can_be_drawn_and_is_kept() -> None:
    for label in LABELS:
        drawn = face(5, label)
        assert drawn.label == label
        assert drawn.image.shape == (SIZE, SIZE, 3)
        assert drawn.image.dtype == np.uint8
        assert drawn.owner.shape == (SIZE, SIZE)
    assert len({face(5, label).image.tobytes() for label in LABELS}) == 16


def test_regions_share_out_the_image() -> None:
    for seed in SEEDS:
        for label in ("0000", "1111", "0100"):
            regions = face(seed, label).regions
            assert tuple(regions) == REGIONS
            np.testing.assert_array_equal(sum(mask.astype(int) for mask in regions.values()), np.ones((SIZE, SIZE)))
            present = {name for name, mask in regions.items() if mask.any()}
            assert present >= {"background", "clothes", "hair", "eyes", "mouth", "skin"}


def test_only_men_have_a_beard() -> None:
    for woman, man in pairs("male"):
        assert not woman.regions["beard"].any()
        assert man.regions["beard"].sum() > 50


def test_bangs_hide_the_forehead_and_change_nothing_below() -> None:
    for without, bangs in pairs("bangs"):
        assert bangs.regions["forehead"].sum() < 0.5 * without.regions["forehead"].sum()
        assert (bangs.regions["hair"] & without.regions["forehead"]).any()
        assert not changed(without, bangs)[beside(without.regions["mouth"] | without.regions["beard"])].any()


def test_lipstick_changes_the_mouth_alone() -> None:
    for without, lipstick in pairs("lipstick"):
        moved = changed(without, lipstick)
        mouth = without.regions["mouth"] | lipstick.regions["mouth"]
        assert moved.any()
        assert not (moved & ~beside(mouth, 2)).any()
        assert lipstick.regions["mouth"].sum() > without.regions["mouth"].sum()


def test_painted_lips_are_red() -> None:
    for without, lipstick in pairs("lipstick", male=False):
        both = without.regions["mouth"] & lipstick.regions["mouth"]
        redness = [
            float((one.image[both][:, 0].astype(int) - one.image[both][:, 1]).mean()) for one in (without, lipstick)
        ]
        assert redness[1] > redness[0] + 30
    assert all(red > 2 * max(green, 1) for red, green, _ in LIPSTICKS)


def test_a_smile_changes_the_mouth_alone_and_makes_it_wider() -> None:
    for serious, smile in pairs("smile"):
        moved = changed(serious, smile)
        mouth = serious.regions["mouth"] | smile.regions["mouth"]
        assert moved.any()
        assert not (moved & ~beside(mouth, 2)).any()
        widths = [np.ptp(np.nonzero(one.regions["mouth"].any(0))[0]) for one in (serious, smile)]
        assert widths[1] > widths[0]


def test_a_smile_shows_teeth() -> None:
    for serious, smile in pairs("smile"):
        whitest = [int(one.image[one.regions["mouth"]].min(-1).max()) for one in (serious, smile)]
        assert whitest[1] > max(whitest[0] - 20, 190)


def test_sex_changes_no_background_above_the_head() -> None:
    for woman, man in pairs("male"):
        assert not changed(woman, man)[:4].any()
        assert changed(woman, man)[beside(man.regions["beard"])].mean() > 0.3


def test_shares_sum_to_one_and_follow_the_imbalance() -> None:
    for imbalance in (0, 0.5, 1, 2):
        shares = label_shares(imbalance)
        assert tuple(shares) == LABELS
        assert sum(shares.values()) == pytest.approx(1)
    assert set(label_shares(0).values()) == {1 / 16}
    source = label_shares(1)
    assert max(source, key=lambda label: source[label]) == "0100"
    assert sum(share for label, share in source.items() if label[1] == label[3] == "1") == pytest.approx(0.42 * 0.005)
    assert sum(share for label, share in source.items() if label[1] == "1") == pytest.approx(0.42)
    half = label_shares(0.5)
    assert half["0111"] / half["0100"] == pytest.approx((source["0111"] / source["0100"]) ** 0.5)


def test_labels_are_drawn_with_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.studio.faces._Painter.face", lambda painter, label: label)
    drawn: list[str] = [str(face(seed, imbalance=1)) for seed in range(4000)]
    for label, share in label_shares(1).items():
        assert drawn.count(label) / 4000 == pytest.approx(share, abs=0.025), label


@pytest.mark.parametrize("label", ["", "01", "00000", "012", "0020", "male"])
def test_what_is_no_label_is_refused(label: str) -> None:
    with pytest.raises(OptionError, match="expected four bits for bangs, male, smile, lipstick, such as '0011'"):
        face(0, label)


@pytest.mark.parametrize("imbalance", [-0.1, float("nan")])
def test_an_impossible_imbalance_is_refused(imbalance: float) -> None:
    with pytest.raises(OptionError, match="imbalance is .*; expected 0"):
        label_shares(imbalance)
