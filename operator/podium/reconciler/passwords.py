"""Secrets that many Devices share: each is read once for all of them, and looked at now and then."""

import logging
from collections.abc import Callable

from podium.core.devices.decide import SecretSeen, secret_of
from podium.core.effects import Unknown
from podium.ports import Cluster, Gone, Key, Refused, RetryLater
from podium.reconciler.store import Store

log = logging.getLogger(__name__)

# (namespace, name) of a Secret.
SecretName = tuple[str, str]


class Passwords:
    """Secrets are not watched: who may watch them may read them all."""

    def __init__(self, cluster: Cluster, store: Store, wake: Callable[[Key], None]) -> None:
        """`wake(key)`: a Secret that this object needs has changed."""
        self._cluster = cluster
        self._store = store
        self._wake = wake
        self._known: dict[SecretName, SecretSeen] = {}

    async def read(self, namespace: str, name: str) -> SecretSeen:
        """What is in it, as it was seen when the API server answered last.

        Raises RetryLater where nothing is known of it yet and the API server does not say.
        """
        known = self._known.get((namespace, name))
        if known is None:
            known = self._known[namespace, name] = await self._look(namespace, name)
        return known

    async def refresh(self) -> None:
        """Read all that are in use anew; have those looked at whose Secret has changed."""
        users = self._users()
        for secret in self._known.keys() - users.keys():
            del self._known[secret]
        for secret in list(self._known):
            try:
                now = await self._look(*secret)
            except RetryLater as error:
                # No news: what is known of it stands, as for a server that is away.
                log.debug("Secret %s/%s: %s", *secret, error)
                continue
            if now != self._known[secret]:
                self._known[secret] = now
                for key in users[secret]:
                    self._wake(key)

    def _users(self) -> dict[SecretName, list[Key]]:
        users: dict[SecretName, list[Key]] = {}
        for device in self._store.devices.values():
            if (named := secret_of(device, self._store.roster.model_of(device))) is not None:
                users.setdefault((device.key.namespace, named.name), []).append(device.key)
        for model in self._store.models.values():
            if model.spec is not None and (own := model.spec.credentials_secret) is not None:
                users.setdefault((model.key.namespace, own.name), []).append(model.key)
        return users

    async def _look(self, namespace: str, name: str) -> SecretSeen:
        try:
            return await self._cluster.get_secret(namespace, name)
        except Gone:
            return "Absent"
        except Refused as error:
            return Unknown(f"Secret {name} cannot be read: {error}", "SecretUnreadable")
