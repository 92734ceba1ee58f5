"""SimpleJWT's own code: tokens that it issues and denies, and which of them it accepts."""

from __future__ import annotations

import contextlib
import hashlib
from datetime import UTC, datetime, timedelta

from django.contrib.auth import get_user_model
from django.utils import timezone
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken

DAY = 86400


def chance(salt: str, number: int) -> float:
    """Return a number in [0, 1) that is always the same."""
    return int.from_bytes(hashlib.sha256(f"{salt} {number}".encode()).digest()[:6], "big") / 2**48


def fill(rows: int) -> None:
    """Issue `rows` tokens over the last months, four of ten of them still alive, and deny one of five."""
    users = list(get_user_model().objects.order_by("id"))
    now = timezone.now()
    issued = [_issued(number, users, now) for number in range(rows)]
    OutstandingToken.objects.bulk_create(issued, batch_size=1000)
    denied = [BlacklistedToken(token=token) for number, token in enumerate(issued) if chance("denied", number) < 0.2]
    BlacklistedToken.objects.bulk_create(denied, batch_size=1000)
    for number in range(6):
        token = RefreshToken.for_user(users[number % len(users)])
        if number < 2:
            token.blacklist()


def _issued(number: int, users: list[object], now: datetime) -> OutstandingToken:
    alive = chance("alive", number) < 0.4
    age = (0.1 + 29 * chance("age", number)) * DAY if alive else (31 + 60 * chance("age", number)) * DAY
    moment = now - timedelta(seconds=age)
    token = RefreshToken()
    token.set_iat(at_time=moment)
    token.set_exp(from_time=moment)
    # One of twenty belongs to a user who is gone.
    user = users[int(len(users) * chance("user", number) ** 3)] if number % 20 else None
    expires = datetime.fromtimestamp(token["exp"], UTC)
    return OutstandingToken(user=user, jti=token["jti"], token=str(token), created_at=moment, expires_at=expires)


def accepted() -> dict[str, list[str]]:
    """Return the ids of the tokens that the refresh endpoint would take: well signed, alive and not on the list."""
    found = []
    for row in OutstandingToken.objects.all():
        with contextlib.suppress(TokenError):
            RefreshToken(row.token).check_blacklist()
            found.append(row.jti)
    return {"refresh_tokens": found}
