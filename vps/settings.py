"""All settings, from the environment; what is missing or wrong stops the start with a sentence.

Secrets come from files (`..._FILE`) or, for a container, from the variable itself; never from this file.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import quote, urlsplit

import environ
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()


def secret(name: str, default: str | None = None) -> str:
    """A secret from the file named by NAME_FILE, or from NAME. Raises ImproperlyConfigured."""
    if path := env.str(f"{name}_FILE", default=""):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE names {path}, which cannot be read: {error}") from error
    value = env.str(name, default=default or "")
    if not value:
        raise ImproperlyConfigured(f"Set {name}_FILE to a file that holds the secret (or {name} itself).")
    return value


BERTH_QUICKSTART = env.bool("BERTH_QUICKSTART", default=False)
DEBUG = env.bool("BERTH_DEBUG", default=False)
BERTH_DATA_DIR = Path(env.str("BERTH_DATA_DIR", default=str(BASE_DIR / "var" / "berth"))).resolve()
BERTH_BASE_URL = env.str("BERTH_BASE_URL", default="http://localhost:8000").rstrip("/")
# Where browsers reach the gateway. Empty: /ws/ of the same origin (nginx in front).
BERTH_GATEWAY_URL = env.str("BERTH_GATEWAY_URL", default="").rstrip("/")
BERTH_REDIS_URL = secret("BERTH_REDIS_URL", default="redis://127.0.0.1:6379/0")
# rediss:// is TLS. Who may have signed Redis' certificate: the system's authorities, or those of a file.
BERTH_REDIS_CA_FILE = env.str("BERTH_REDIS_CA_FILE", default="")
BERTH_BROKER_TLS: dict[str, object] | None = None
if BERTH_REDIS_CA_FILE:
    if not BERTH_REDIS_URL.startswith("rediss://"):
        raise ImproperlyConfigured("BERTH_REDIS_CA_FILE is given, but BERTH_REDIS_URL is not rediss://.")
    if not Path(BERTH_REDIS_CA_FILE).is_file():
        raise ImproperlyConfigured(f"BERTH_REDIS_CA_FILE names {BERTH_REDIS_CA_FILE}, which is no file.")
if BERTH_REDIS_URL.startswith("rediss://"):
    # kombu takes it from here, redis-py from the address.
    BERTH_BROKER_TLS = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    if BERTH_REDIS_CA_FILE:
        BERTH_BROKER_TLS["ssl_ca_certs"] = BERTH_REDIS_CA_FILE
        BERTH_REDIS_URL += (
            f"{'&' if '?' in BERTH_REDIS_URL else '?'}ssl_ca_certs={quote(BERTH_REDIS_CA_FILE)}"
        )
# How the dom0s reach Redis and the web, where that is another address than ours.
BERTH_AGENT_REDIS_URL = env.str("BERTH_AGENT_REDIS_URL", default="")
BERTH_AGENT_WEB_URL = env.str("BERTH_AGENT_WEB_URL", default="")
BERTH_SIGNING_KEY_FILE = Path(env.str("BERTH_SIGNING_KEY_FILE", default=str(BERTH_DATA_DIR / "signing.key")))

SECRET_KEY = secret("BERTH_SECRET_KEY", default="insecure-only-for-tests" if DEBUG else None)
# The one before, when it was rolled: sessions, letters and second factors that it sealed stay good.
SECRET_KEY_FALLBACKS = [_old] if (_old := secret("BERTH_SECRET_KEY_OLD", default="none")) != "none" else []
_base = urlsplit(BERTH_BASE_URL)
if _base.scheme not in ("http", "https") or not _base.hostname:
    raise ImproperlyConfigured(
        f"BERTH_BASE_URL is {BERTH_BASE_URL!r}; it must look like https://berth.example.org."
    )
ALLOWED_HOSTS = [_base.hostname, *env.list("BERTH_ALLOWED_HOSTS", default=[])]
if BERTH_QUICKSTART or DEBUG:
    # The last is this machine's loopback as the lab's dom0 sees it, through QEMU's user network.
    ALLOWED_HOSTS += ["localhost", "127.0.0.1", "10.0.2.2"]
CSRF_TRUSTED_ORIGINS = [BERTH_BASE_URL]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "accounts",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "vps.apps.VpsConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "vps.middleware.BodyLimitMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.SecondFactorMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "vps.middleware.RequestIdMiddleware",
]

ROOT_URLCONF = "vps.urls"
WSGI_APPLICATION = "vps.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "vps.context.page",
                "accounts.context.suspensions",
            ],
        },
    }
]

DATABASES = {
    "default": env.db_url_config(
        secret("BERTH_DATABASE_URL", default=f"sqlite:///{BERTH_DATA_DIR / 'berth.sqlite3'}")
    ),
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 60,  # seconds: with two hundred writers at once the last one waits for all others, some 20 s
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
BERTH_EVENT_MODEL = "vps.Event"  # where accounts write what happened
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if _base.scheme == "https":
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31536000
# Of the host itself only: what else is served below its name, or beside it, is not ours to promise for.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# Accounts: allauth, with our words (accounts/adapter.py), forms, templates and addresses (accounts/urls.py).
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True  # in the browser that signed up, no other
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False  # nobody may have us write to strangers
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600  # seconds after which a log-in is not fresh any more
ACCOUNT_DEFAULT_HTTP_PROTOCOL = _base.scheme
ACCOUNT_FORMS = {
    "login": "accounts.forms.entrance.LoginForm",
    "signup": "accounts.forms.entrance.SignUpForm",
    "reset_password": "accounts.forms.entrance.ResetForm",
    "reset_password_from_key": "accounts.forms.entrance.NewPasswordForm",
    "reauthenticate": "accounts.forms.entrance.PasswordAgainForm",
    "change_password": "accounts.forms.me.ChangePasswordForm",
    "set_password": "accounts.forms.me.SetPasswordForm",
    "add_email": "accounts.forms.me.AddressForm",
}
MFA_ADAPTER = "accounts.adapter.SecondFactorAdapter"
MFA_FORMS = {
    "authenticate": "accounts.forms.second_factor.CodeForm",
    "reauthenticate": "accounts.forms.second_factor.CodeAgainForm",
    "activate_totp": "accounts.forms.second_factor.ActivateForm",
    "add_webauthn": "accounts.forms.second_factor.PasskeyForm",
    "edit_webauthn": "accounts.forms.second_factor.RenameForm",
    "login_webauthn": "accounts.forms.second_factor.PasskeyLoginForm",
    "authenticate_webauthn": "accounts.forms.second_factor.PasskeyCodeForm",
    "reauthenticate_webauthn": "accounts.forms.second_factor.PasskeyAgainForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Berth"
MFA_TOTP_TOLERANCE = 1  # periods of 30 s
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = _base.scheme == "http"  # browsers take localhost only
# How many proxies in front of the web add to X-Forwarded-For: limits are counted by the visitor's address.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("BERTH_PROXIES", default=1 if _base.scheme == "https" else 0)
# Limits on log-in, sign-up and reset must hold over all workers and while Redis is away.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "accounts_cache",
        "OPTIONS": {"MAX_ENTRIES": 50_000},
    }
}

_gateway = [BERTH_GATEWAY_URL] if BERTH_GATEWAY_URL else []
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF, *_gateway],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

LANGUAGE_CODE = "en"
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True
LOCALE_PATHS = [BASE_DIR / "locale"]

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BERTH_DATA_DIR / "static"
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": BERTH_DATA_DIR / "files"},
    },
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Kernels in an S3-compatible storage instead: the web nodes then need no folder in common.
BERTH_S3_BUCKET = env.str("BERTH_S3_BUCKET", default="")
if BERTH_S3_BUCKET:
    try:
        from botocore.config import Config as S3Config
    except ImportError as _error:
        raise ImproperlyConfigured(
            "BERTH_S3_BUCKET is set, but the packages for it are missing; install berth[web,s3]."
        ) from _error

    _s3_endpoint = env.str("BERTH_S3_ENDPOINT", default="")  # empty: Amazon's
    STORAGES["default"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": BERTH_S3_BUCKET,
            "endpoint_url": _s3_endpoint or None,
            "region_name": env.str("BERTH_S3_REGION", default="us-east-1"),
            "access_key": secret("BERTH_S3_ACCESS_KEY"),
            "secret_key": secret("BERTH_S3_SECRET_KEY"),
            "verify": env.str("BERTH_S3_CA_FILE", default="") or None,
            "file_overwrite": False,  # what is removed must not take with it what comes again under its name
            "max_memory_size": 1024 * 1024,  # of a file that is read; more goes to disk
            "client_config": S3Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if _s3_endpoint else "auto"},
                connect_timeout=3,
                read_timeout=20,
                retries={"max_attempts": 3, "mode": "standard"},
                # What other makers' servers do not know yet is sent only where it must be.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        },
    }
if DEBUG:
    STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    WHITENOISE_USE_FINDERS = True
    WHITENOISE_AUTOREFRESH = True

# Uploads of kernels: pieces are appended to a staging file; nothing else is ever large.
BERTH_STAGING_DIR = BERTH_DATA_DIR / "staging"
BERTH_KERNEL_LIMIT = 256 * 1024 * 1024  # bytes
BERTH_UPLOAD_PIECE = 32 * 1024 * 1024  # bytes at most; senders begin with a quarter
BERTH_PERSON_UPLOADS = env.int("BERTH_PERSON_UPLOADS", default=60)  # that one person begins in an hour
BERTH_TOKEN_UPLOADS = env.int("BERTH_TOKEN_UPLOADS", default=30)  # of one build machine's token in an hour
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500

# Delivery, seconds.
BERTH_ORDER_LIFETIME = env.int("BERTH_ORDER_LIFETIME", default=900)  # not-after of an order
BERTH_RESEND_AFTER = env.int("BERTH_RESEND_AFTER", default=10)  # an order that nobody accepted
BERTH_ASK_AFTER = env.int("BERTH_ASK_AFTER", default=60)  # an accepted operation without news
BERTH_SILENT_AFTER = env.int("BERTH_SILENT_AFTER", default=35)  # a dom0 that was not heard
BERTH_STUCK_AFTER = env.int("BERTH_STUCK_AFTER", default=120)  # an operation without news is stuck
BERTH_ALARM_SETTLE = env.int("BERTH_ALARM_SETTLE", default=60)  # an alarm that held so long is mailed
BERTH_ALARM_QUIET = env.int("BERTH_ALARM_QUIET", default=3600)  # and not again so soon for the same thing
BERTH_OUTPUT_LIMIT = 100_000  # entries of a dom0's report stream that are read before it is cut

# Consoles: how many at once, and seconds without a key after which one is closed.
BERTH_CONSOLES_PER_USER = env.int("BERTH_CONSOLES_PER_USER", default=10)
BERTH_CONSOLES_PER_SERVER = env.int("BERTH_CONSOLES_PER_SERVER", default=20)
BERTH_CONSOLE_IDLE = env.int("BERTH_CONSOLE_IDLE", default=3600)

# Where worker and collector write that they are alive, for the health checks of containers; empty: nowhere.
BERTH_PULSE_DIR = env.str("BERTH_PULSE_DIR", default="")

# Days.
BERTH_REQUEST_DAYS = env.int("BERTH_REQUEST_DAYS", default=14)  # a request that nobody decided
BERTH_UNCONFIRMED_DAYS = env.int("BERTH_UNCONFIRMED_DAYS", default=14)  # a sign-up that nobody confirmed
BERTH_KEEP_DAYS = env.int("BERTH_KEEP_DAYS", default=7)  # the disks of a deleted server
BERTH_FILE_DAYS = env.int("BERTH_FILE_DAYS", default=1)  # a kernel's file that nothing needs any more

# Trial boots, on dom0s that are set aside for them.
BERTH_TRIAL_MEMORY = env.int("BERTH_TRIAL_MEMORY", default=256)  # MiB
BERTH_TRIAL_SECONDS = env.int("BERTH_TRIAL_SECONDS", default=120)
BERTH_TRIAL_DEMANDED = env.bool("BERTH_TRIAL_DEMANDED", default=False)  # before an upload stands in a menu

# What a new tenant may use until an operator sets another default. MiB, numbers, bytes.
BERTH_DEFAULT_QUOTA = {
    "servers": 5,
    "memory_mib": 4096,
    "vcpus": 8,
    "disk_mib": 40960,
    "kernel_bytes": 2 * 1024**3,
}

# Prometheus sends it as `Authorization: Bearer ...`; without one /metrics answers on loopback only.
BERTH_METRICS_TOKEN = secret("BERTH_METRICS_TOKEN", default="none").removeprefix("none")

_log_form = env.str("BERTH_LOG", default="plain")  # or "json": one object a line
if _log_form not in ("plain", "json"):
    raise ImproperlyConfigured(f"BERTH_LOG is {_log_form!r}; it must be plain or json.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"()": "vps.logs.Plain", "format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
        "json": {"()": "vps.logs.Json"},
    },
    "filters": {"secret_paths": {"()": "vps.logs.SecretPaths"}},
    "loggers": {name: {"filters": ["secret_paths"]} for name in ("django.request", "django.security.csrf")},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": _log_form}},
    "root": {"handlers": ["stderr"], "level": env.str("BERTH_LOG_LEVEL", default="INFO")},
}

# Mail: smtp+tls://name:password@host:587. The quick start keeps it for its outbox page and sends nothing.
if _mail := secret("BERTH_EMAIL_URL", default="none").removeprefix("none"):
    try:
        _server = env.email_url_config(_mail)
    except KeyError as _error:
        raise ImproperlyConfigured(
            "BERTH_EMAIL_URL must look like smtp+tls://name:password@mail.example.org:587."
        ) from _error
    EMAIL_BACKEND = _server["EMAIL_BACKEND"]
    EMAIL_HOST, EMAIL_PORT = _server["EMAIL_HOST"], _server["EMAIL_PORT"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _server["EMAIL_HOST_USER"], _server["EMAIL_HOST_PASSWORD"]
    EMAIL_USE_TLS, EMAIL_USE_SSL = _server.get("EMAIL_USE_TLS", False), _server.get("EMAIL_USE_SSL", False)
elif BERTH_QUICKSTART:
    EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
else:
    EMAIL_BACKEND = "accounts.mail.NoServer"
EMAIL_TIMEOUT = 20  # seconds
DEFAULT_FROM_EMAIL = env.str("BERTH_MAIL_FROM", default=f"Berth <berth@{_base.hostname}>")
