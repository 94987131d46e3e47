"""A facilitator behind a URL: the SDK's HTTP client, on connections we can rely on to end."""

from x402.http.facilitator_client import FacilitatorConfig, HTTPFacilitatorClientSync
from x402.schemas import (
    PaymentPayload,
    PaymentRequirements,
    SettleResponse,
    SupportedResponse,
    VerifyResponse,
)

from x402jobs.adapters.bounded_http import Connections

LARGEST_ANSWER = 256 * 1024
"""In bytes. Answers have a few hundred; what a large facilitator supports, some thousands."""

_ANSWERS: dict[str, type[SupportedResponse | VerifyResponse | SettleResponse]] = {
    "supported": SupportedResponse,
    "verify": VerifyResponse,
    "settle": SettleResponse,
}


class RemoteFacilitator:
    """The SDK's client, over one shared set of connections per process. To be used `within`.

    The SDK is not left to make them: its own follow redirects and the environment's proxies.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.connections = Connections(LARGEST_ANSWER, _check)

    def get_supported(self) -> SupportedResponse:
        return self._client().get_supported()

    def verify(self, payload: PaymentPayload, requirements: PaymentRequirements) -> VerifyResponse:
        return self._client().verify(payload, requirements)

    def settle(self, payload: PaymentPayload, requirements: PaymentRequirements) -> SettleResponse:
        return self._client().settle(payload, requirements)

    def close(self) -> None:
        """Hang up and forget the connections; the next question makes new ones."""
        self.connections.close()

    def _client(self) -> HTTPFacilitatorClientSync:
        http = self.connections.client()
        return HTTPFacilitatorClientSync(FacilitatorConfig(url=self._url, http_client=http))


def _check(path: str, body: bytes) -> None:
    """Whether the answer is of its kind, strictly: the SDK would read "yes" as true, 0 as false."""
    _ANSWERS[path.rpartition("/")[2]].model_validate_json(body, strict=True)
