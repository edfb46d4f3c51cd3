"""Which Devices belong together: those of a model, and those that claim the same board or place."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from podium.core.objects import Device, DeviceModel
from podium.ports import Key

# What only one Device of a namespace can have: (namespace, "mac" or "address", the value).
Claim = tuple[str, str, str]


class Roster:
    """An index over the store's devices; kept up to date by the store."""

    def __init__(self, devices: Mapping[Key, Device], models: Mapping[Key, DeviceModel]) -> None:
        self._devices = devices
        self._models = models
        self._claims: defaultdict[Claim, set[Key]] = defaultdict(set)
        self._of_model: defaultdict[Key, set[Key]] = defaultdict(set)

    def replace(self, before: Device | None, after: Device | None) -> None:
        """A device came, went (`after` None) or changed."""
        if before is not None:
            for claim in claims_of(before):
                self._drop(self._claims, claim, before.key)
            if (model := model_key(before)) is not None:
                self._drop(self._of_model, model, before.key)
        if after is not None:
            for claim in claims_of(after):
                self._claims[claim].add(after.key)
            if (model := model_key(after)) is not None:
                self._of_model[model].add(after.key)

    def model_of(self, device: Device) -> DeviceModel | None:
        """The model that it names, if there is one."""
        key = model_key(device)
        return self._models.get(key) if key is not None else None

    def of_model(self, key: Key) -> frozenset[Key]:
        """The devices that name this model."""
        return frozenset(self._of_model.get(key, ()))

    def rivals(self, device: Device) -> Iterator[tuple[str, Device]]:
        """("mac" or "address", another device that claims the same), the oldest first."""
        for claim in claims_of(device):
            others = [self._devices[key] for key in self._claims.get(claim, ()) if key != device.key]
            for other in sorted(others, key=_age):
                yield claim[1], other

    def same(self, device: Device, what: str) -> str:
        """The name of the oldest older device with the same mac or address; "": none."""
        older = (
            other for claimed, other in self.rivals(device) if claimed == what and _age(other) < _age(device)
        )
        return next((other.key.name for other in older), "")

    @staticmethod
    def _drop(
        index: "defaultdict[Claim, set[Key]] | defaultdict[Key, set[Key]]", at: object, key: Key
    ) -> None:
        keys = index[at]  # type: ignore[index]  # one of the two kinds of index, with a key of its own
        keys.discard(key)
        if not keys:
            del index[at]  # type: ignore[arg-type]


def claims_of(device: Device) -> tuple[Claim, ...]:
    """What it says is its own alone."""
    if device.spec is None or device.deleting_since is not None:
        return ()
    namespace, address = device.key.namespace, device.spec.address
    place: Claim = (namespace, "address", f"{address.host.lower()}:{address.health_port}")
    return (place, (namespace, "mac", device.spec.mac)) if device.spec.mac else (place,)


def model_key(device: Device) -> Key | None:
    """The key of the model that it names."""
    return Key("DeviceModel", device.key.namespace, device.spec.model) if device.spec is not None else None


def _age(device: Device) -> tuple[object, str]:
    return device.created, device.key.name
