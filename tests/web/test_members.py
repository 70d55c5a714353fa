"""The people of a tenant: roles, invitations, leaving, removing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.conflict import Conflict
from accounts.models import Invitation, Mail, Membership, Role, Tenant, User
from accounts.models.tenant import GIVES
from tests.web.conftest import Browser, Cast
from tests.web.test_request import text
from vps.models import Event

pytestmark = pytest.mark.django_db


def membership(cast: Cast, role: str) -> Membership:
    return cast.tenant.memberships.get(user=getattr(cast, role))


def token() -> str:
    return (
        Mail.objects.filter(template="invitation")
        .order_by("-created_at")[0]
        .text.split("/invitations/")[1]
        .split("/")[0]
    )


@pytest.mark.parametrize("by", ["owner", "admin", "developer", "viewer"])
@pytest.mark.parametrize("who", ["admin", "developer", "viewer"])
@pytest.mark.parametrize("role", ["owner", "admin", "developer", "viewer"])
def test_who_may_give_whom_which_role(cast: Cast, by: str, who: str, role: str) -> None:
    may = {who, role} <= GIVES.get(by, frozenset())
    row = membership(cast, who)
    if may:
        row.change_role(role, getattr(cast, by))
    else:
        with pytest.raises(Conflict, match="Only an owner"):
            row.change_role(role, getattr(cast, by))
    assert membership(cast, who).role == (role if may else who)
    changed = Event.objects.filter(kind="member.role", tenant=cast.tenant).count()
    assert changed == int(may and role != who)


def test_an_admin_decides_about_developers_and_viewers_only() -> None:
    assert {"owner": set(Role.values), "admin": {"developer", "viewer"}} == GIVES


def test_the_last_owner_stays(cast: Cast, browser: Browser) -> None:
    row = membership(cast, "owner")
    owner = browser(cast.owner)
    for answer in (
        owner.post(reverse("member_role", args=[row.pk]), {"role": "viewer"}),
        owner.post(reverse("member_remove", args=[row.pk])),
    ):
        assert answer.status_code == 409
        assert "Owner is the last owner of Example" in text(answer)
    assert membership(cast, "owner").role == Role.OWNER
    membership(cast, "admin").change_role(Role.OWNER, cast.owner)
    assert owner.post(reverse("member_remove", args=[row.pk])).url == reverse("people")
    assert cast.tenant.role_of(cast.owner) is None


def test_an_owner_whose_account_is_closed_does_not_count(cast: Cast) -> None:
    membership(cast, "admin").change_role(Role.OWNER, cast.owner)
    cast.admin.deactivate(cast.operator, "left")
    with pytest.raises(Conflict, match="last owner"):
        membership(cast, "owner").remove(cast.owner)


def test_two_owners_do_not_remove_one_another(cast: Cast) -> None:
    membership(cast, "admin").change_role(Role.OWNER, cast.owner)
    first, second = membership(cast, "owner"), membership(cast, "admin")
    second.remove(cast.owner)
    with pytest.raises(Conflict):
        first.remove(cast.admin)
    assert cast.tenant.memberships.filter(role=Role.OWNER).count() == 1


def test_a_stale_page_changes_nothing(cast: Cast) -> None:
    stale = membership(cast, "viewer")
    membership(cast, "viewer").change_role(Role.DEVELOPER, cast.owner)
    with pytest.raises(Conflict, match="Somebody was first"):
        stale.change_role(Role.ADMIN, cast.owner)
    with pytest.raises(Conflict, match="Somebody was first"):
        stale.remove(cast.owner)


def test_leaving_and_removing(cast: Cast, browser: Browser) -> None:
    page = text(browser(cast.viewer).get(reverse("member_remove", args=[membership(cast, "viewer").pk])))
    assert "Leave Example" in page
    left = browser(cast.viewer).post(reverse("member_remove", args=[membership(cast, "viewer").pk]))
    assert left.url == reverse("people")
    assert browser(cast.viewer).get(reverse("members", args=[cast.tenant.pk])).status_code == 404
    out = browser(cast.admin).post(reverse("member_remove", args=[membership(cast, "developer").pk]))
    assert out.url == reverse("members", args=[cast.tenant.pk])
    assert set(Event.objects.filter(tenant=cast.tenant).values_list("kind", flat=True)) >= {
        "member.left",
        "member.removed",
    }


def test_a_member_of_elsewhere_is_not_there(cast: Cast, browser: Browser) -> None:
    row = cast.other.memberships.get()
    for name in ("member_role", "member_remove"):
        assert browser(cast.owner).post(reverse(name, args=[row.pk]), {"role": "viewer"}).status_code == 404


def test_a_role_that_is_none_is_refused(cast: Cast, browser: Browser) -> None:
    url = reverse("member_role", args=[membership(cast, "viewer").pk])
    answer = browser(cast.owner).post(url, {"role": "king"})
    assert answer.status_code == 422 and "Choose one of the roles." in text(answer)


def test_inviting_shows_who_is_waited_for(cast: Cast, browser: Browser) -> None:
    url = reverse("members", args=[cast.tenant.pk])
    answer = browser(cast.admin).post(url, {"email": "Guest@Example.org", "role": "developer"})
    assert answer.url == url
    page = text(browser(cast.viewer).get(url))
    assert "guest@example.org" in page and "Take back" not in page
    assert "Take back" in text(browser(cast.owner).get(url))
    mail = Mail.objects.get(template="invitation")
    assert mail.to == "guest@example.org" and "Admin invites you into Example, as developer" in mail.text
    assert token() not in str(Invitation.objects.values()), "only its sum is kept"


@pytest.mark.parametrize(
    ("by", "data", "status", "words"),
    [
        ("owner", {"email": "viewer@example.org", "role": "viewer"}, 409, "is a member already"),
        ("owner", {"email": "nobody", "role": "viewer"}, 422, "valid email address"),
        ("admin", {"email": "x@example.org", "role": "owner"}, 422, "not one of the available choices"),
    ],
)
def test_what_cannot_be_invited(
    cast: Cast, browser: Browser, by: str, data: dict[str, str], status: int, words: str
) -> None:
    answer = browser(getattr(cast, by)).post(reverse("members", args=[cast.tenant.pk]), data)
    assert answer.status_code == status and words in text(answer)
    assert not Invitation.objects.exists() and not Mail.objects.exists()


def test_inviting_again_takes_the_first_letter_back(cast: Cast, browser: Browser) -> None:
    Invitation.invite("stranger@example.org", cast.owner, cast.tenant, Role.VIEWER)
    first = token()
    Invitation.invite("stranger@example.org", cast.owner, cast.tenant, Role.ADMIN)
    assert "taken back" in text(browser(cast.stranger).get(reverse("invitation", args=[first])))
    assert browser(cast.stranger).post(reverse("invitation", args=[first])).status_code == 409
    assert browser(cast.stranger).post(reverse("invitation", args=[token()])).url == reverse("home")
    assert cast.tenant.role_of(cast.stranger) == Role.ADMIN
    assert cast.other.role_of(cast.stranger) == Role.OWNER, "one may be in several"


def test_it_is_bound_to_its_address(cast: Cast, browser: Browser) -> None:
    Invitation.invite("second@example.org", cast.owner, cast.tenant, Role.VIEWER)
    answer = browser(cast.stranger).post(reverse("invitation", args=[token()]))
    assert answer.status_code == 409
    assert "This invitation is for second@example.org; you are logged in as stranger@example.org." in text(
        answer
    )
    assert cast.tenant.role_of(cast.stranger) is None


def test_it_is_good_for_seven_days(cast: Cast, browser: Browser) -> None:
    made = Invitation.invite("stranger@example.org", cast.owner, cast.tenant, Role.VIEWER)
    assert timedelta(days=6, hours=23) < made.expires_at - timezone.now() <= timedelta(days=7)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    url = reverse("invitation", args=[token()])
    answer = browser(cast.stranger).get(url)
    assert answer.status_code == 410 and "older than 7 days" in text(answer)
    assert browser(cast.stranger).post(url).status_code == 409
    assert "stranger@example.org" not in text(
        browser(cast.owner).get(reverse("members", args=[cast.tenant.pk]))
    )


def test_it_is_good_once(cast: Cast) -> None:
    made = Invitation.invite("stranger@example.org", cast.owner, cast.tenant, Role.VIEWER)
    made.accept(cast.stranger)
    cast.tenant.memberships.get(user=cast.stranger).remove(cast.owner)
    with pytest.raises(Conflict, match="used already"):
        made.accept(cast.stranger)
    assert cast.tenant.role_of(cast.stranger) is None


def test_taking_back(cast: Cast, browser: Browser) -> None:
    made = Invitation.invite("x@example.org", cast.owner, cast.tenant, Role.OWNER)
    url = reverse("invitation_revoke", args=[made.pk])
    assert browser(cast.admin).post(url).status_code == 409, (
        "an owner's invitation is not an admin's to decide"
    )
    assert browser(cast.owner).post(url).status_code == 302
    again = browser(cast.owner).post(url)
    assert again.status_code == 409 and "does not wait any more" in text(again)
    assert Event.objects.filter(kind="member.uninvited").count() == 1


def test_a_letter_of_nobody_is_404() -> None:
    assert Client().get(reverse("invitation", args=["nothing"])).status_code == 404


def test_somebody_who_has_an_account_is_led_to_log_in(cast: Cast) -> None:
    Invitation.invite("stranger@example.org", cast.owner, cast.tenant, Role.VIEWER)
    url = reverse("invitation", args=[token()])
    page = text(Client().get(url))
    assert f"{reverse('login')}?next={url}" in page and "Sign up to accept" not in page
    assert f'name="next" value="{url}"' in text(Client().get(f"{reverse('login')}?next={url}"))


def test_with_several_tenants_one_sees_which_is_which(cast: Cast, browser: Browser) -> None:
    Membership.objects.create(tenant=cast.other, user=cast.viewer, role=Role.ADMIN)
    page = text(browser(cast.viewer).get(reverse("people")))
    for words in ("Example", "you are viewer", "Elsewhere", "you are admin"):
        assert words in page


def test_nobody_in_no_tenant_is_told_so(db: None, browser: Browser) -> None:
    alone = User.objects.create_user("alone@example.org", "x" * 12)
    assert "You are in no tenant" in text(browser(alone).get(reverse("people")))
    assert not Tenant.objects.exists()
