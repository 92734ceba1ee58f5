"""Django OAuth Toolkit's own code: rows that it writes, and which tokens it accepts."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, Grant, IDToken, RefreshToken, revoke_access_token
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.common import Request
from oauthlib.oauth2 import Server

HOUR = timedelta(hours=1)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def fill(_rows: int) -> None:
    """Write what a few logins leave behind: tokens in use, renewed, revoked in each way there is, and codes."""
    user = get_user_model().objects.create_user("written by Django")
    client = Application.objects.create(
        name="Written by Django",
        client_id="django",
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris="https://django.example.com/back",
        registration_source="manual",
    )
    now = timezone.now()
    for number in range(12):
        family = uuid.uuid5(uuid.NAMESPACE_DNS, f"family {number // 3}")
        common: dict[str, Any] = {"user": user, "application": client}
        identity = IDToken.objects.create(expires=now + HOUR, scope="openid", **common) if number % 2 else None
        access = AccessToken.objects.create(
            token=f"written access {number}", expires=now + HOUR, scope="openid read", id_token=identity, **common
        )
        refresh = RefreshToken.objects.create(token=f"written refresh {number}", access_token=access, token_family=family, **common)
        if number in (3, 4):
            revoke_access_token(access)
        elif number == 7:
            refresh.revoke()
        Grant.objects.create(
            code=f"written code {number}", expires=now + HOUR, redirect_uri="https://django.example.com/back", scope="read", **common
        )
    # Reuse of a renewed token ends its whole family.
    RefreshToken.revoke_family(uuid.uuid5(uuid.NAMESPACE_DNS, "family 3"))


def accepted() -> dict[str, list[str]]:
    """Return the ids of the tokens that pass the checks of the token and resource endpoints.

    An endpoint asks the database anew for every token, which takes milliseconds: where the row alone decides, the endpoint's validator is
    asked for one in ten, to see that it agrees.
    """
    access = AccessToken.objects.order_by("id")
    passed = {row.pk: row.is_valid() for row in access}
    for row in access[::10]:
        _agree(row, passed[row.pk], OAuth2Validator().validate_bearer_token(row.token, [], _request()))
    renewable = {}
    for number, row in enumerate(RefreshToken.objects.select_related("application").order_by("id")):
        # No grace period is set: what is revoked is refused.
        ask = row.revoked is None or number % 10 == 0
        renewable[row.pk] = ask and OAuth2Validator().validate_refresh_token(row.token, row.application, _request())
        if row.revoked is not None:
            _agree(row, False, renewable[row.pk])
    identity = {row.jti: row.is_valid() for row in IDToken.objects.all()}
    answers = {"access_tokens": passed, "refresh_tokens": renewable, "id_tokens": identity}
    return {name: [str(key) for key, yes in rows.items() if yes] for name, rows in answers.items()}


def renew(*refresh_tokens: int) -> dict[str, int]:
    """Return the status with which the token endpoint answers each of the refresh tokens; nothing of it stays.

    Only those of public clients can be asked for, because nobody knows the others' secrets.
    """
    found = {}
    for row in RefreshToken.objects.select_related("application").filter(pk__in=refresh_tokens):
        asked = {"grant_type": "refresh_token", "refresh_token": row.token, "client_id": row.application.client_id}
        with transaction.atomic():
            answer = Server(OAuth2Validator()).create_token_response("https://example.com/o/token/", "POST", urlencode(asked), FORM)
            found[str(row.pk)] = answer[2]
            transaction.set_rollback(True)
    return found


def _request() -> Request:
    return Request("https://example.com/")


def _agree(row: object, expected: bool, answer: bool) -> None:
    if expected != answer:
        raise SystemExit(f"the validator says {answer} of {row}")
