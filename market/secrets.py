"""Secrets in addresses, taken out before anything is printed or stored. Knows text only."""

from __future__ import annotations

import re

_USER = re.compile(
    r"(?i)\b(?!abfss?:|wasbs?:)([a-z][a-z0-9+.-]*://)"  # Azure's name a container before the @
    r"(?:[^/?#\s'\"]*|[^/\s:@'\"]+:[^\s@'\"]+)@"  # a secret may hold an @, or a slash
)
"""name:password before the host."""
_PARAMETER = re.compile(
    r"(?i)(\b[\w.-]*(?:token|secret|passw(?:or)?d|pwd|signature|credential|api_?key|access_?key|"
    r"account_?key)[\w.-]*|(?<=[?&])(?:sig|key))=[^&;\s'\"),]+"
)
"""Values of parameters with telling names, in a URL or a connection string."""


def hidden(text: str) -> str:
    """The text with `***` for names and passwords of URLs, and for values of secret parameters."""
    if "@" not in text and "=" not in text:
        return text
    return _PARAMETER.sub(r"\1=***", _USER.sub(r"\1***@", text))
