"""Addresses as people write them."""


def api_address(url: str | None) -> str | None:
    """Conductor's API lives under /api; people name the server with or without it. None, "": not named."""
    if not url:
        return None
    url = url.rstrip("/")
    return url if url.endswith("/api") else f"{url}/api"
