"""Sends firmware over the air by the protocol of ArduinoOTA, to many devices through one listening port.

    async with Gateway(GatewaySettings(host="192.0.2.7", port=3233)) as gateway:
        verdict = await gateway.send(image, Target("192.0.2.21", password="…"))

A verdict speaks of the transfer. Whether the device runs the image is for its health to show.
"""

from podium_workers.services.ota.gateway import Gateway, GatewaySettings
from podium_workers.services.ota.handshake import Target, Timing
from podium_workers.services.ota.transfer import Progress
from podium_workers.services.ota.verdicts import Failed, Succeeded, Unknown, Verdict

__all__ = [
    "Failed",
    "Gateway",
    "GatewaySettings",
    "Progress",
    "Succeeded",
    "Target",
    "Timing",
    "Unknown",
    "Verdict",
]
