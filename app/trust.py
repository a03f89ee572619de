"""Whose portal tokens are taken, and what an outside identity provider's claims mean here. No I/O."""

from typing import Final

import msgspec

NODE_AUDIENCE: Final = "aiwm-node"
"""`aud` of node tokens, by which the two kinds are told apart."""


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Portal tokens are signed with the service's secret, or with a key of the identity provider at `jwks_url`.

    `org_claim` and `role_claim` are names of claims, or JSON Pointers (RFC 6901) into them: `/realm_access/roles`.
    Of the provider's roles those listed mean a role here, the highest counts. Empty `viewer_roles`: whoever has none
    of the others is a viewer. Empty `admin_roles`: nobody from outside is an admin.
    """

    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None
    org_claim: str = "orgId"
    role_claim: str = "role"
    viewer_roles: tuple[str, ...] = ()
    operator_roles: tuple[str, ...] = ("operator",)
    admin_roles: tuple[str, ...] = ()
    allow_hs256: bool = False

    @property
    def takes_own(self) -> bool:
        """Whether portal tokens that the service's own secret signed are taken."""
        return self.jwks_url is None or self.allow_hs256

    @property
    def problem(self) -> str | None:
        """What does not fit together, as a sentence for whoever set it."""
        if self.jwks_url is not None and (self.issuer is None or self.audience is None):
            return (
                "AIWM_JWT_JWKS_URL needs AIWM_JWT_ISSUER and AIWM_JWT_AUDIENCE: without them a token that the identity "
                "provider made for any other service would open this one."
            )
        if self.audience == NODE_AUDIENCE:
            return f"AIWM_JWT_AUDIENCE must not be {NODE_AUDIENCE}: that is what node tokens are told by."
        return None


OWN_ALONE: Final = Trust()
"""Nobody's tokens but the service's own."""
