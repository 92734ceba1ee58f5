"""One Django project, with one published application in it, run as a program of its own: nothing else here imports Django.

    program.py APPLICATION COMMAND [ROWS]

The database comes from the environment variable GROUND_DATABASE, libpq's parameters as JSON; the answer is a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from datetime import timedelta

import django
from django.conf import settings

APPLICATIONS = {
    "django_oauth_toolkit": "oauth2_provider",
    "simplejwt": "rest_framework_simplejwt.token_blacklist",
}
REFRESH_LIFETIME = timedelta(days=30)
# What the site signs with; long enough that nobody warns of it.
SECRET = "not a secret: every database here is thrown away"


def set_up(application: str) -> None:
    """Configure Django as a small site with one application would be."""
    address = json.loads(os.environ["GROUND_DATABASE"])
    names = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password", "NAME": "dbname"}
    settings.configure(
        SECRET_KEY=SECRET,
        USE_TZ=True,
        TIME_ZONE="Europe/Tallinn",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", APPLICATIONS[application]],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **{key: address[name] for key, name in names.items()}}},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        OAUTH2_PROVIDER={"REFRESH_TOKEN_EXPIRE_SECONDS": REFRESH_LIFETIME, "SCOPES": {"read": "Read", "write": "Write"}},
        SIMPLE_JWT={"REFRESH_TOKEN_LIFETIME": REFRESH_LIFETIME},
    )
    django.setup()


def migrate() -> None:
    """Run the real migrations."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)


def main() -> None:
    """Do what the arguments say."""
    application, command, *arguments = sys.argv[1:]
    set_up(application)
    if command == "migrate":
        migrate()
        return
    own = importlib.import_module("simplejwt_rows" if application == "simplejwt" else "toolkit_rows")
    print(json.dumps(getattr(own, command)(*map(int, arguments))))


if __name__ == "__main__":
    main()
